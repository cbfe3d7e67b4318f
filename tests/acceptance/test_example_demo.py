"""``manage.py demo`` from nothing, and the pages of its shop over HTTP."""

import html
import http.cookiejar
import re
import urllib.request
import uuid

import numpy as np
import pytest
from PIL import Image

from ..example import demo_shop, get  # noqa: F401

COUNT = "from example_project.shop.models import *; print(Product.objects.count(), ProductImage.objects.count(), "
COUNT += "Category.objects.count(), Product.objects.filter(embedding=None).count())"


@pytest.fixture(scope="module")
def filled(demo_shop):  # noqa: F811
    return demo_shop


@pytest.fixture(scope="module")
def address(filled):
    with filled.server() as address:
        yield address


def test_demo_from_nothing(filled):
    first = filled.drawn["output"]
    assert filled.drawn["left"] == [], "the demo left something running"
    hits = re.findall(r"^  (\d)\. (-?\d\.\d{3})  ([A-Z]{3}-\d{3})  \S", first, re.M)
    assert len(hits) == 18
    for photo in (0, 6, 12):
        scores = [float(score) for _, score, _ in hits[photo : photo + 6]]
        assert scores == sorted(scores, reverse=True)
    assert "3 of 3 photos found their product first" in first
    assert "inline, after commit" in first
    assert "manage.py runserver" in first
    with Image.open(filled.folder / "demo-results.png") as sheet:
        assert sheet.width > 1000
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 5000
    products, pictures, categories, without = map(int, filled.python(COUNT).split())
    assert products >= 300
    assert categories >= 10
    assert pictures > 100
    assert without == 0


FIRST_DAY = """
from django_visual_search import search
from django_visual_search.models import *
from example_project.shop.models import *
kinds = set(Feedback.objects.values_list("kind", flat=True))
bought = Feedback.objects.filter(kind="purchase").exclude(query_kind="").count()
mug = Product.objects.get(sku="MUG-004")
reasons = {reason for hit in search.similar_to(mug) for reason in hit.reasons}
lamp = search.similar_to(Product.objects.get(sku="LAM-002"))[0]
print(sorted(kinds), bought, SearchLog.objects.count(), "feedback" in reasons, lamp.product.sku, lamp.reasons[-1])
print(RankingRule.objects.count(), IndexingRun.objects.get(kind="findability").done, end=" ")
print(Order.objects.filter(customer__username="ada").count())
"""


def test_the_first_day(filled, address):
    """Shoppers came, staff made rules, a check ran; the printed login opens the admin."""
    day, numbers = filled.python(FIRST_DAY).split("\n")
    kinds = "['cart', 'click', 'favourite', 'impression', 'purchase', 'skip']"
    assert day == f"{kinds} 3 48 True LAM-009 pinned"
    assert numbers == "3 20 1"
    name, password = re.search(r"for user (\S+) with password (\S+)", filled.drawn["output"]).groups()
    login = "from django.contrib.auth import authenticate; "
    login += f"print(authenticate(username={name!r}, password={password!r}).is_superuser)"
    assert filled.python(login) == "True"


ADMIN_LIST = """
import re
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.test import Client
client = Client(headers={"host": "localhost"})
client.force_login(User.objects.get(username="demo"))
page = client.get("/admin/shop/product/").content.decode()
pictures = re.findall(r'<img class="visual-search-thumbnail" src="/media/([^"]+)"', page)
print(len(pictures), len(page) + sum(map(default_storage.size, pictures)))
"""


def test_the_admins_list_is_light(filled):
    pictures, size = map(int, filled.python(ADMIN_LIST).split())
    assert pictures == 50
    assert size <= 200_000


def test_no_two_products_look_alike(filled):
    """By thumbnails, because backdrops differ by a few shades, and so do JPEGs of the same product."""
    looks, names = [], []
    for file in sorted((filled.state / "media" / "products" / "drawn").glob("???-???.jpg")):
        with Image.open(file) as picture:
            picture.draft("RGB", (75, 75))
            looks.append(np.asarray(picture.convert("RGB").resize((75, 75)), np.int16))
        names.append(file.stem)
    assert len(names) == 336
    alike = [
        (names[i], names[j])
        for i in range(len(names))
        for j in range(i)
        if names[i][:3] == names[j][:3] and np.abs(looks[i] - looks[j]).max() < 30
    ]
    assert alike == []


RESULT = re.compile(r"^  \d\. .*", re.M)


def test_a_demo_beside_it_waited_and_changed_nothing(filled):
    again = filled.drawn["again"]
    assert "Drawing 0 of" in again
    assert "0 done, 336 skipped" in again
    assert RESULT.findall(again) == RESULT.findall(filled.drawn["output"])


def test_interrupted_drawing_is_completed_and_nothing_else_changes(filled):
    """In production too, where no password is printed."""
    before = filled.python(COUNT)
    drawn = filled.state / "media" / "products" / "drawn"
    (drawn / "mug-001.jpg").unlink()
    with pytest.MonkeyPatch.context() as production:
        production.setitem(filled.environment, "DEBUG", "0")
        production.setitem(filled.environment, "SECRET_KEY", "kept by the shop" * 4)
        again = filled.manage("demo")
    assert "password" not in again
    assert "Drawing 1 of 336" in again
    assert (drawn / "mug-001.jpg").stat().st_size > 5000
    assert filled.python(COUNT) == before
    assert RESULT.findall(again) == RESULT.findall(filled.drawn["output"])


def test_pages(filled, address):
    status, page = get(f"{address}/")
    assert (status, page.count('class="card"')) == (200, 24)
    assert "Page 1 of 14" in page
    assert "<img" in page
    assert not re.findall(r'(?:src|href)="https?:', page), "no assets from elsewhere"
    status, mugs = get(f"{address}/?category=mugs&max_price=20&order=price")
    prices = [float(price) for price in re.findall(r"€ (\d+\.\d\d)", mugs)]
    assert prices == sorted(prices)
    assert 0 < len(prices) < 22
    assert max(prices) <= 20
    assert get(f"{address}/?category=none&min_price=x&page=zzz")[0] == 200
    link = re.search(r'href="(/products/[^"]+)"', mugs).group(1)
    status, product = get(address + link)
    assert status == 200
    assert product.count('class="card"') == 8
    assert product.count("data-visual-search-favourite") == 8
    assert "similarity" not in product
    assert link not in product.split("Similar items")[1], "never itself"
    assert get(f"{address}/products/none/")[0] == 404
    media = re.search(r'src="(/media/[^"]+)"', product).group(1)
    with urllib.request.urlopen(address + media) as picture:
        assert picture.headers["content-type"] == "image/jpeg"
    assert get(f"{address}/admin/login/")[0] == 200
    assert "embedded inline" in (filled.folder / "server.log").read_text()


def post(address, name, data, **fields):
    jar = http.cookiejar.CookieJar()
    with urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar)).open(f"{address}/photo-search/") as form:
        form.read()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in {"csrfmiddlewaretoken": token, **fields}.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
    body = b"".join([*parts, head, data, f"\r\n--{boundary}--\r\n".encode()])
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Cookie": f"csrftoken={token}"}
    return get(f"{address}/photo-search/", body, headers)


def found(page):
    """Return the addresses of the hits."""
    return re.findall(r'<a href="([^"]+)" data-visual-search-product=', page)


def test_photo_search(filled, address):
    photo = (filled.state / "photos" / "tea-004-table.jpg").read_bytes()
    status, page = post(address, "tea.jpg", photo)
    assert status == 200
    assert "tea-004" in found(page)[0]
    assert len(found(page)) > 12  # with a head, those of which it is confident
    assert page.count("data-visual-search-favourite") == page.count("visual-search-price") == len(found(page))
    brand, count = re.search(r'href="([^"]+)"[^>]*>Casa Olmo <span class="visual-search-count">(\d+)', page).groups()
    status, page = get(address + html.unescape(brand))
    assert (status, len(found(page))) == (200, int(count))
    for name, data in (("note.jpg", b"this is no picture"), ("empty.jpg", b""), ("half.jpg", photo[:900])):
        status, page = post(address, name, data)
        assert status == 422, name
        assert 'role="alert"' in page
        assert "Traceback" not in page


AFTER_A_STROLL = """
import re
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
shopper = Client(headers={"host": "localhost"})
with open(%r, "rb") as photo:
    page = shopper.post("/photo-search/", {"image": SimpleUploadedFile("tea.jpg", photo.read())})
address = re.search('data-url="([^"]+)"', page.content.decode()).group(1)
for i in range(600):
    cache.set(f"imagekit:{i}", {"exists": True})
print(shopper.get(address).status_code)
"""


def test_the_hits_of_a_photo_are_there_after_a_stroll_through_the_shop(filled):
    assert filled.python(AFTER_A_STROLL % str(filled.state / "photos" / "tea-004-table.jpg")) == "200"


def test_unpublished_product_is_not_found(filled, address):
    filled.python(
        "from example_project.shop.models import *; Product.objects.filter(sku='TEA-004').update(is_published=False)"
    )
    photo = (filled.state / "photos" / "tea-004-table.jpg").read_bytes()
    try:
        _, page = post(address, "tea.jpg", photo)
        assert len(found(page)) > 12
        assert "tea-004" not in page
    finally:
        program = "from example_project.shop.models import *; Product.objects.update(is_published=True)"
        filled.python(program)


def test_saving_a_product_embeds_it_inline(filled):
    program = """
from django.core.files import File
from django.conf import settings
from example_project.shop.models import *
one = Product.objects.get(sku="MUG-002")
new = Product(name="New", slug="new", sku="NEW", category=one.category, brand=one.brand, price=5)
with open(settings.MEDIA_ROOT / one.image.name, "rb") as file:
    new.image.save("new.jpg", File(file))
new.refresh_from_db()
one.refresh_from_db()
print(new.embedding == one.embedding, new.embedding is not None)
new.delete()
"""
    assert filled.python(program) == "True True"


BROKEN = """
from django.core.files.base import ContentFile
from example_project.shop.models import *
one = Product.objects.get(sku="MUG-002")
broken = Product(name="Broken", slug="broken", sku="BROKEN", category=one.category, brand=one.brand, price=5)
broken.image.save("broken.jpg", ContentFile(b"no picture"))
"""


def test_a_broken_picture_breaks_no_page(filled, address):
    filled.python(BROKEN)
    try:
        for url in ("/?category=mugs", "/products/broken/"):
            status, page = get(address + url)
            assert (status, "Broken" in page) == (200, True)
        pictures, _ = filled.python(ADMIN_LIST).split()
        assert int(pictures) == 49
    finally:
        filled.python("from example_project.shop.models import *; Product.objects.get(sku='BROKEN').delete()")


def test_migrations_are_complete_and_checks_clean(filled):
    assert "No changes detected" in filled.manage("makemigrations", "--check")
    assert "no issues" in filled.manage("check", "--database", "default")
