"""Pages show no hidden product: template tags, the photo search page, and an admin that shows some staff a part."""

import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.template import Context, Template
from django.test import RequestFactory
from hypothesis import given

from django_visual_search.models import Feedback
from django_visual_search.search import results

from ..conftest import picture
from ..staff import staff
from ..testshop.admin import ProductAdmin
from ..testshop.models import Product
from .test_api_leaks import Shop, Visitor, many, numbers, products_of_visitor, products_states, shop_rules, visitors  # noqa: F401

pytestmark = pytest.mark.django_db
TAGS = (
    "{% load visual_search %}{% similar_items product limit=12 %}"
    "{% similar_items product limit=12 within=everything %}"
    "{% get_similar_items product limit=12 within=everything as items %}"
    "<ul {% feedback_attributes items %}>{% for hit in items %}<li>{{ hit.product }} #{{ hit.product.pk }}{% endfor %}"
)
PHOTO_PAGE = "/visual-search/photo/testshop/product/"


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    cache.clear()
    return Shop()


def names(page):
    """Return the products named anywhere in the page."""
    return set(re.findall(r"secret-\d{3}", page))


def offered(page):
    """Return the primary keys in the page's tokens."""
    tokens = re.findall(r'data-visual-search-token="([^"]+)"', page)
    return {place.product_pk for token in tokens for place in results.read_token(token).places}


def names_seen(shop, visitor, states):
    return {p.name for p, state in zip(shop.products, states, strict=True) if visitor.may_see(state)}


def test_template_tags(shop):
    """With any ``within``, and on the page of a hidden product."""

    @many
    @given(states=products_states, kind=visitors, asked=numbers, pinned=numbers)
    def check(states, kind, asked, pinned):
        shop.put(states)
        shop.pin(pinned)
        visitor, product = Visitor(kind), shop.products[asked]
        request = RequestFactory().get("/", headers={"x-channel": visitor.channel})
        request.user = visitor.user
        shown = {"request": request, "product": product, "everything": Product.objects.all()}
        page = Template(TAGS).render(Context(shown))
        assert names(page) == names_seen(shop, visitor, states) - {product.name}
        assert offered(page) == shop.seen_by(visitor, states) - {str(product.pk)}

    check()


def test_photo_page(shop):
    @many
    @given(states=products_states, kind=visitors, asked=numbers, pinned=numbers)
    def check(states, kind, asked, pinned):
        shop.put(states)
        shop.pin(pinned)
        visitor = Visitor(kind)
        sent = {"image": SimpleUploadedFile("photo.jpg", picture(asked))}
        page = visitor.request("post", PHOTO_PAGE, sent).content.decode()
        assert names(page) == names_seen(shop, visitor, states)
        assert offered(page) == shop.seen_by(visitor, states)

    check()


def test_admin_pages_show_what_its_queryset_does(shop, client, monkeypatch):
    """Staff of one channel: the list, a product's neighbours, search by photo and by a product."""

    def of_channel(self, request):
        request.user.is_staff = False  # the rule for visitors applies
        try:
            return products_of_visitor(request)
        finally:
            request.user.is_staff = True

    monkeypatch.setattr(ProductAdmin, "get_queryset", of_channel)
    client.force_login(staff())
    admin = "/admin/testshop/product/"

    @many
    @given(states=products_states, channel=visitors.filter(lambda kind: kind != "staff"), asked=numbers)
    def check(states, channel, asked):
        shop.put(states)
        visitor, product = Visitor(channel), shop.products[asked]
        allowed = names_seen(shop, visitor, states)
        headers = {"x-channel": channel}
        photo = {"photo": SimpleUploadedFile("photo.jpg", picture(asked)), "limit": 24}
        page = client.post(f"{admin}visual-search/", photo, headers=headers)
        assert names(page.content.decode()) == allowed
        found = client.get(f"{admin}visual-search/", {"product": product.pk}, headers=headers)
        change = client.get(f"{admin}{product.pk}/change/", headers=headers)
        if product.name in allowed:
            assert names(found.content.decode()) == allowed
            assert names(change.content.decode()) <= allowed
        else:
            assert (found.status_code, change.status_code) == (404, 302)
        assert not names(client.get(admin, headers=headers).content.decode()) - allowed

    check()
    assert not Feedback.objects.exists()
