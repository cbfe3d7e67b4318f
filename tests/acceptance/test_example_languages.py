"""The example shop in Arabic and Chinese: nothing of ours is in English, and Arabic pages run from right to left."""

import json

import pytest

from ..browser import DESKTOP, MOBILE, browser, opened, shot, wider_than_the_window  # noqa: F401
from ..example import demo_shop  # noqa: F401
from ..translations import latin_words, visible_texts

PHOTO_PAGE = "/visual-search/photo/shop/product/"
LEAVING = r"ERR_ABORTED .*/(media|feedback)/"
NO_ICON = r"404 .*/favicon\.ico"
DJANGO = r"inline style .*(static/admin|/change/|/add/)"

SAMPLES = ["tea-004-table", "bac-019-room", "sne-010-table"]
"""Names of the photos, which their products name no more."""

WALK = """
import io, json
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.functions import Cast
from django.db import models
from django.test import Client
from example_project.shop.models import Brand, Category, Product

# The shop's own data is English, so numbers stand for it.
for model in (Brand, Category, Product):
    model.objects.update(name=Cast("pk", models.CharField()))
Product.objects.update(description="", colour="1", sku=Cast("pk", models.CharField()))
few, none = Product.objects.exclude(image="")[:2]
Product.objects.filter(pk=few.pk).update(stock=2)
Product.objects.filter(pk=none.pk).update(stock=0)
many = Product.objects.filter(stock__gt=5).exclude(pk__in=[few.pk, none.pk]).first()
with many.image.open() as file:
    photo = file.read()
client = Client(headers={"accept-language": LANGUAGE}, SERVER_NAME="localhost")
send = lambda data, url="/photo-search/": client.post(url, {"image": SimpleUploadedFile("1.jpg", data)})
pages = {
    url: client.get(url) for url in (
        "/", "/?page=2", "/?q=none", "/?min_price=none", "/photo-search/", "/visual-search/photo/shop/product/",
        *(one.get_absolute_url() for one in (few, none, many)),
    )
}
pages |= {
    "found": send(photo), "refused": send(b"none"), "empty": send(b""),
    "the app's": send(photo, "/visual-search/photo/shop/product/"),
    "bought": client.post(many.get_absolute_url() + "buy/", follow=True),
    "sold out": client.post(none.get_absolute_url() + "buy/", follow=True),
}
print(json.dumps({name: [page.status_code, page.content.decode()] for name, page in pages.items()}))
"""


@pytest.fixture(scope="module")
def shop(demo_shop):  # noqa: F811
    demo_shop.environment["DJANGO_SETTINGS_MODULE"] = "tests.strict_example"
    demo_shop.product = demo_shop.python(
        "from django.contrib.auth.models import User; User.objects.create_superuser('staff', password='of the shop');"
        "from example_project.shop.models import *; print(Product.objects.get(sku='TEA-004').get_absolute_url())"
    )
    return demo_shop


def test_right_to_left(browser, shop):  # noqa: F811
    photo = shop.state / "photos" / "tea-004-table.jpg"
    with shop.server() as address:
        for viewport in (DESKTOP, MOBILE):
            width = viewport["width"]
            with opened(browser, viewport, locale="ar", expected=[LEAVING, NO_ICON, DJANGO]) as page:
                for name, path in (
                    ("list", "/"),
                    ("product", shop.product),
                    ("photo", "/photo-search/"),
                    ("app", PHOTO_PAGE),
                ):
                    page.goto(address + path)
                    if name in ("photo", "app"):
                        page.locator("#visual-search-photo input[type=file]").first.set_input_files(photo)
                        page.locator(".visual-search-results [data-visual-search-product]").first.wait_for()
                    look(page, f"ar-{name}-{width}")
                page.goto(f"{address}/admin/login/?next=/admin/django_visual_search/dashboard/")
                page.fill("#id_username", "staff")
                page.fill("#id_password", "of the shop")
                page.click("input[type=submit]")
                for name, path in (
                    ("dashboard", "django_visual_search/dashboard/"),
                    ("findability", "django_visual_search/findability/"),
                    ("rules", "django_visual_search/rankingrule/"),
                    ("rule", "django_visual_search/rankingrule/add/"),
                    ("products", "shop/product/"),
                    ("staff-photo", "shop/product/visual-search/"),
                ):
                    page.goto(f"{address}/admin/{path}")
                    look(page, f"ar-{name}-{width}")


def look(page, name):
    assert page.evaluate("[document.documentElement.lang, document.documentElement.dir]") == ["ar", "rtl"], name
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    page.wait_for_load_state("networkidle")
    shot(page, name)
    assert wider_than_the_window(page) == 0, name


@pytest.mark.parametrize(("language", "catalogue", "direction"), [("ar", "ar", "rtl"), ("zh-hans", "zh_Hans", "ltr")])
def test_no_english_is_left(language, catalogue, direction, shop):
    pages = json.loads(shop.python(f"LANGUAGE = {language!r}\n{WALK}"))
    statuses = {name: status for name, (status, _) in pages.items() if status != 200}
    assert statuses == {"refused": 422, "empty": 422}
    left = {}
    for name, (_, page) in pages.items():
        assert f'<html lang="{language}" dir="{direction}">' in page, name
        if found := latin_words(visible_texts(page), catalogue, SAMPLES):
            left[name] = found
    assert not left
