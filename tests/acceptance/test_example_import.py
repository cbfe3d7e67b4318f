"""``manage.py import_catalogue`` with the files that shops have."""

import codecs
import json
from decimal import Decimal

import pytest

from example_project.shop.csv_rows import CatalogueError, Row, RowError, price, read

from ..conftest import picture
from ..example import ROOT, example  # noqa: F401

HEAD = "name,category,brand,price,images"
SHOP = """
import json
from example_project.shop.models import *
print(json.dumps([[p.sku, p.name, p.slug, p.category.name, p.brand.name, str(p.price), p.stock, p.description,
    p.embedding is not None, [i.embedding.embedding is not None for i in p.images.all()]]
    for p in Product.objects.order_by("pk")]))
"""


@pytest.fixture
def folder(tmp_path):
    for n in range(4):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
    return tmp_path


def write(folder, *lines, head=HEAD, encoding="utf-8"):
    file = folder / "catalogue.csv"
    file.write_bytes("\r\n".join([head, *lines, ""]).encode(encoding))
    return file


def rows(folder, *lines, **kwargs):
    return list(read(write(folder, *lines, **kwargs)))


def reason(folder, line, **kwargs):
    ((number, row),) = rows(folder, line, **kwargs)
    assert number == 2
    assert isinstance(row, RowError), row
    return str(row)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1299", "1299"),
        ("0", "0"),
        ("9.9", "9.9"),
        ("1,299.00", "1299.00"),
        ("1.299,00", "1299.00"),
        ("1 299,00 €", "1299.00"),
        ("1\u00a0299.00", "1299.00"),
        ("1'299.00", "1299.00"),
        ("CHF 1\u2019299.50", "1299.50"),
        ("$19.99", "19.99"),
        ("19,99 EUR", "19.99"),
        ("1,234,567.89", "1234567.89"),
    ],
)
def test_price(text, value):
    assert price(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["free", "-5", "1.2.3", "1,299", "1.299", "12,34,567.00", "nan", "1e5", "1.234", "5.-", "€", " " * 9999]
)
def test_price_refused(text):
    with pytest.raises(RowError, match="rice"):
        price(text)


def test_row(folder):
    head = f"{HEAD},stock,description,sku,slug,colour"
    line = '"Mug, large",Mugs,Kiln,"1,299.00",0.jpg;1.jpg| 2.jpg ;0.jpg,7,"Says ""hi""",M-1,mug-large,red'
    ((number, row),) = rows(folder, line, head=head)
    root = folder.resolve()
    images = tuple(root / f"{n}.jpg" for n in range(3))
    assert number == 2
    assert row == Row("Mug, large", "Mugs", "Kiln", Decimal("1299.00"), 7, 'Says "hi"', images, "M-1", "mug-large")


def test_line_numbers_count_lines_within_cells_and_blank_ones(folder):
    found = rows(folder, '"Two', 'lines",C,B,1,0.jpg', "", ",,,,", "x,C,B,y,0.jpg")
    assert [number for number, _ in found] == [2, 6]
    assert isinstance(found[1][1], RowError)


@pytest.mark.parametrize("separator", [";", "\t", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_and_byte_order_mark(folder, separator, encoding):
    line = separator.join(["Müg", "C", "B", "9.50", "0.jpg|1.jpg"])
    ((_, row),) = rows(folder, line, head=HEAD.replace(",", separator), encoding=encoding)
    assert row.name == "Müg"
    assert len(row.images) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",C,B,1,0.jpg", "No name."),
        ("a,,B,1,", "No category, no images."),
        ("a,C,B", "No price, no images."),
        ("a,C,B,1,0.jpg,x", "6 cells for 5 columns"),
        ("a,C,B,1.299,0.jpg", "ambiguous"),
        ("a,C,B,1,none.jpg", "no file 'none.jpg'"),
        ("a,C,B,1,../catalogue.csv", "outside"),
        ("a,C,B,1,/etc/passwd", "outside"),
        ("a,C,B,1,link.jpg", "outside"),
        (f"a,C,B,1,{'x' * 5000}.jpg", "no file"),
        ("a\0,C,B,1,0.jpg", "NUL"),
        ('"a"b,C,B,1,0.jpg', "quoting"),
        ('"a,C,B,1,0.jpg', "quoting"),
    ],
)
def test_bad_row_is_named(folder, line, message):
    (folder / "link.jpg").symlink_to("/etc/passwd")
    assert message in reason(folder, line)


@pytest.mark.parametrize("stock", ["-1", "1.5", "many", "99999999999", "٣"])
def test_bad_stock(folder, stock):
    assert "stock" in reason(folder, f"a,C,B,1,0.jpg,{stock}", head=f"{HEAD},stock")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (codecs.BOM_UTF8 + b"\r\n", "empty"),
        (b"name,price\na,1", "Missing: category, brand, images"),
        (HEAD.encode() + b",name\n", "twice: name"),
        (HEAD.encode() + b"\nM\xfcg,C,B,1,0.jpg", "not UTF-8 (byte 0xfc in line 2)"),
        (HEAD.encode("utf-16"), "not UTF-8 (byte 0xff in line 1)"),
    ],
)
def test_unreadable_file(folder, content, message):
    (folder / "bad.csv").write_bytes(content)
    with pytest.raises(CatalogueError) as e:
        list(read(folder / "bad.csv"))
    assert message in str(e.value)


def test_import_of_good_and_bad_rows_and_again(example, folder):  # noqa: F811
    (folder / "text.jpg").write_text("no picture")
    (folder / "half.jpg").write_bytes(picture(1)[:200])
    head = f"{HEAD},stock,description,sku"
    lines = [
        'Mug,Mugs,Kiln,"1,299.00",0.jpg;1.jpg,3,"A, mug",M-1',
        "Cup,mugs,KILN,5,2.jpg,,,",
        "Bad price,Mugs,Kiln,x,0.jpg,,,",
        "Text,Mugs,Kiln,5,text.jpg,,,T-1",
        "Half,Mugs,Kiln,5,0.jpg;half.jpg,,,T-2",
        "Mug again,Mugs,Kiln,5,0.jpg,,,M-1",
        "cup,Mugs,Kiln,6,3.jpg,,,",
        f"{'n' * 161},Mugs,Kiln,6,3.jpg,,,",
        "Dear,Mugs,Kiln,123456789012,3.jpg,,,",
    ]
    output = example.manage("import_catalogue", write(folder, *lines, head=head))
    assert "2 new, 0 updated, 7 bad rows" in output
    for number, message in (
        (4, "not a price"),
        (5, "text.jpg: "),
        (6, "half.jpg: "),
        (7, "line 2"),
        (8, "line 3"),
        (9, "name: "),
        (10, "price: "),
    ):
        (line,) = [line for line in output.splitlines() if line.startswith(f"line {number}: ")]
        assert message in line
    mug, cup = json.loads(example.python(SHOP))
    assert mug == ["M-1", "Mug", "mug", "Mugs", "Kiln", "1299.00", 3, "A, mug", True, [True]]
    assert cup[1:] == ["Cup", "cup", "Mugs", "Kiln", "5.00", 0, "", True, []]

    again = write(folder, "Big mug,Mugs,Kiln,7,3.jpg,1,,M-1", "Cup,Mugs,Kiln,8,2.jpg,4,,", head=head)
    output = example.call("import_catalogue", again)
    assert "0 new, 2 updated, 0 bad rows" in output
    assert "1 done, 1 skipped" in output, "the picture that stayed is not embedded again"
    mug, cup2 = json.loads(example.python(SHOP))
    assert mug == ["M-1", "Big mug", "mug", "Mugs", "Kiln", "7.00", 1, "", True, []]
    assert cup2[0] == cup[0]
    assert cup2[5:7] == ["8.00", 4]


def test_exit_codes(example, folder):  # noqa: F811
    assert "No row was imported" in example.manage("import_catalogue", write(folder, "a,C,B,x,0.jpg"), code=1)
    mixed = write(folder, "Strict,C,B,1,0.jpg", "a,C,B,x,0.jpg")
    assert "1 bad rows" in example.manage("import_catalogue", mixed, "--strict", code=1)
    assert '"Strict"' in example.python(SHOP)
    assert "can't be read" in example.manage("import_catalogue", folder / "none.csv", code=1)


def test_the_grocery_shop(example):  # noqa: F811
    grocery = ROOT.parent / "shared" / "data" / "grocery"
    if not grocery.is_dir():
        pytest.skip("../shared/data/grocery is missing")
    pictures = sorted((grocery / "iconic-images-and-descriptions").rglob("*.jpg"))
    folder = example.folder / "grocery"
    folder.symlink_to(grocery)
    # The CSV file lies beside the pictures' folder, whose link is the shop owner's own; it leads outside all the same
    outside = write(example.folder, f"{pictures[0].stem},G,B,1,grocery/{pictures[0].relative_to(grocery)}")
    assert "outside" in example.call("import_catalogue", outside, code=1)
    copies = example.folder / "pictures"
    copies.mkdir()
    lines = []
    for file in pictures:
        (copies / file.name).write_bytes(file.read_bytes())
        lines.append(f"{file.stem},Groceries,Market,1.50,pictures/{file.name}")
    output = example.call("import_catalogue", write(example.folder, *lines))
    assert f"{len(pictures)} new, 0 updated, 0 bad rows" in output
    assert len(pictures) == 81
