"""Read a catalogue's CSV file into checked rows. A bad row becomes an error of one sentence; the others are read.

Entry function: ``read``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

REQUIRED = ("name", "category", "brand", "price", "images")
OPTIONAL = ("stock", "description", "sku", "slug")
MOST_STOCK = 2**31 - 1


class CatalogueError(ValueError):
    """The file is unreadable; the message says why and what to do."""


class RowError(ValueError):
    """One row is bad."""


@dataclass(frozen=True)
class Row:
    name: str
    category: str
    brand: str
    price: Decimal
    stock: int
    description: str
    images: tuple[Path, ...]
    """Existing files below the CSV file's folder; at least one."""
    sku: str
    slug: str


def read(file: Path, delimiter: str | None = None) -> Iterator[tuple[int, Row | RowError]]:
    """Yield the number of its first line and each row that isn't blank. Raises CatalogueError on the first ``next``."""
    text = _text(file)
    head = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or max(",;\t", key=head.count), strict=True)
    columns = _columns(rows)
    line = rows.line_num + 1
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as e:
            yield line, RowError(f"The quoting is broken: {e}. Write a quote inside a quoted cell twice.")
        else:
            if any(cell.strip() for cell in cells):
                yield line, _row_or_reason(columns, cells, file.parent)
        line = rows.line_num + 1


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as e:
        raise CatalogueError(f"{file} can't be read: {e.strerror}.") from e
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise CatalogueError(
            f"{file} is not UTF-8 (byte 0x{data[e.start]:02x} in line {line}). Save it as CSV UTF-8."
        ) from e
    if not text.strip():
        raise CatalogueError(f"{file} is empty.")
    return text


def _columns(rows: Iterator[list[str]]) -> list[str]:
    try:
        columns = [name.strip().lower() for name in next(rows)]
    except csv.Error as e:
        raise CatalogueError(f"The first line is not CSV: {e}.") from e
    columns = ["images" if name == "image" else name for name in columns]
    if missing := [name for name in REQUIRED if name not in columns]:
        raise CatalogueError(
            f"The first line must name the columns {', '.join(REQUIRED)} (and may name {', '.join(OPTIONAL)}). "
            f"Missing: {', '.join(missing)}."
        )
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise CatalogueError(f"The first line names a column twice: {', '.join(twice)}.")
    return columns


def _row_or_reason(columns: list[str], cells: list[str], folder: Path) -> Row | RowError:
    try:
        return _row(columns, cells, folder)
    except RowError as e:
        return e


def _row(columns: list[str], cells: list[str], folder: Path) -> Row:
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise RowError(f"{len(cells)} cells for {len(columns)} columns; a cell with the separator in it needs quotes.")
    if any("\0" in cell for cell in cells):
        raise RowError("The row contains a NUL character.")
    value = dict.fromkeys((*REQUIRED, *OPTIONAL), "")
    value |= {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
    if empty := [name for name in REQUIRED if not value[name]]:
        raise RowError(f"No {', no '.join(empty)}.")
    return Row(
        name=value["name"],
        category=value["category"],
        brand=value["brand"],
        price=price(value["price"]),
        stock=_stock(value["stock"]),
        description=value["description"],
        images=tuple(
            dict.fromkeys(_image(part.strip(), folder) for part in re.split(r"[;|]", value["images"]) if part.strip())
        ),
        sku=value["sku"],
        slug=value["slug"],
    )


def price(text: str) -> Decimal:
    """Parse ``1299``, ``1,299.00``, ``1.299,00``, ``1 299,00`` or ``1'299.00``, with or without a currency sign.

    Raises RowError for anything else, also for a single separator before exactly three digits (``1.299``): its meaning
    depends on the country.
    """
    if len(text) > 40:
        raise RowError("The price is too long.")
    number = re.sub(r"^\s*(?:[€$£¥]|[A-Z]{3})?\s*|\s*(?:[€$£¥]|[A-Z]{3})?\s*$", "", text)
    if re.fullmatch(r"\d{1,3}[.,]\d{3}", number):
        raise RowError(f"The price {text!r} is ambiguous: write it like 1299.00 or 1.30.")
    for thousands, point in ((r"[,'\u2019\s]", r"\."), (r"[.'\u2019\s]", ",")):
        if re.fullmatch(rf"(?:\d+|\d{{1,3}}(?:{thousands}\d{{3}})+)(?:{point}\d{{1,2}})?", number):
            return Decimal(re.sub(thousands, "", number).replace(",", "."))
    raise RowError(f"{text!r} is not a price: a number of 0 or more with at most two decimals, such as 1299.00.")


def _stock(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or int(text) > MOST_STOCK:
        raise RowError(f"{text!r} is not a stock: a whole number of 0 or more.")
    return int(text)


def _image(name: str, folder: Path) -> Path:
    # Resolved, so that neither .. nor a link leads out of the folder that the shop's owner chose
    root = folder.resolve()
    path = (root / name.replace("\\", "/")).resolve()
    if not path.is_relative_to(root):
        raise RowError(f"{name!r} is outside the folder of the CSV file.")
    try:
        found = path.is_file()
    except OSError:  # a name that is too long, a folder that is closed
        found = False
    if not found:
        raise RowError(f"The folder of the CSV file has no file {name!r}.")
    return path
