"""The example shop in Arabic and Chinese: nothing of ours is in English. ``test_browser_pages`` looks at its pages."""

import json

import pytest

from ..example import demo_shop  # noqa: F401
from ..translations import DJANGOS_OWN, latin_words, visible_texts

SAMPLES = ["tea-004-table", "bac-019-room", "sne-010-table"]
"""Names of the photos, which their products name no more."""

WALK = """
import io, json
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.functions import Cast
from django.db import models
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from example_project.shop.models import Brand, Category, Coupon, Order, Product

# The shop's own data is English, so numbers stand for it.
for model in (Brand, Category, Product):
    model.objects.update(name=Cast("pk", models.CharField()))
for model in (Brand, Category, Product):
    model.objects.update(slug=Cast("pk", models.CharField()))
Coupon.objects.update(code=Cast("pk", models.CharField()))
Order.objects.update(email="", customer=None)
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
staff = Client(headers={"accept-language": LANGUAGE}, SERVER_NAME="localhost")
staff.force_login(User.objects.get_or_create(username="1", is_staff=True, is_superuser=True)[0])
tables = [f"shop_{name}" for name in ("category", "brand", "product", "order", "coupon")]
rows = (Category, Brand, Product, Order, Coupon)
addresses = [
    reverse("admin:app_list", args=["shop"]),
    *(reverse(f"admin:{table}_changelist") for table in tables),
    *(reverse(f"admin:{table}_add") for table in tables),
    *(reverse(f"admin:{table}_change", args=[model.objects.first().pk]) for table, model in zip(tables, rows)),
    "/admin/shop/product/visual-search/",
]
pages |= {f"staff's {address}": staff.get(address) for address in addresses}
print(json.dumps({name: [page.status_code, page.content.decode()] for name, page in pages.items()}))
"""


@pytest.fixture(scope="module")
def shop(demo_shop):  # noqa: F811
    demo_shop.environment["DJANGO_SETTINGS_MODULE"] = "tests.strict_example"
    return demo_shop


@pytest.mark.parametrize(("language", "catalogue", "direction"), [("ar", "ar", "rtl"), ("zh-hans", "zh_Hans", "ltr")])
def test_no_english_is_left(language, catalogue, direction, shop):
    pages = json.loads(shop.python(f"LANGUAGE = {language!r}\n{WALK}"))
    statuses = {name: status for name, (status, _) in pages.items() if status != 200}
    assert statuses == {"refused": 422, "empty": 422}
    left = {}
    for name, (_, page) in pages.items():
        assert f'<html lang="{language}" dir="{direction}">' in page, name
        if name.startswith("staff's"):
            page = "<div " + page.partition('id="content"')[2]  # around it, all is Django's
        if found := latin_words(visible_texts(page), catalogue, [*SAMPLES, *DJANGOS_OWN]):
            left[name] = found
    assert not left
