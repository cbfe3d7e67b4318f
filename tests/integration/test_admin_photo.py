"""Staff's search by photo: hits, refusals with their reasons, and permissions."""

import re
import threading

import pytest
from django import forms
from django.contrib.contenttypes.models import ContentType
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_visual_search import images
from django_visual_search.admin import StaffPhotoForm
from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.models import RankingRule, SearchLog
from django_visual_search.storefront.gate import photo_slot

from ..conftest import embed_all, picture, picture_file
from ..staff import staff
from ..testshop.admin import ProductAdmin
from ..testshop.extractors import ColourExtractor
from ..testshop.models import Article, ArticleImage, Category, Product
from .test_admin_status import PICTURES

pytestmark = pytest.mark.django_db

PAGE = "/admin/testshop/product/visual-search/"


@pytest.fixture
def products():
    hats = Category.objects.create(name="Hats")
    made = [
        Product.objects.create(name=f"Product {n}", image=picture_file(n), price=10 + n, category=hats)
        for n in range(6)
    ]
    embed_all()
    return made


@pytest.fixture
def looker(client):
    client.force_login(staff("testshop.view_product"))
    return client


def post(client, data=None, address=PAGE, **fields):
    photo = SimpleUploadedFile("photo.jpg", picture(3) if data is None else data, "image/jpeg")
    return client.post(address, {"photo": photo, **fields})


def links(response, model="product"):
    """Return the primary keys of the hits, in their order."""
    page = response.content.decode()
    return [int(key) for key in re.findall(rf'<li>\s*<a href="/admin/testshop/{model}/(\d+)/change/">', page)]


class Unavailable(ColourExtractor):
    def __call__(self, images):
        raise ExtractorUnavailable("Install <what> is missing.")


class TestFound:
    def test_by_photo(self, looker, products):
        response = post(looker)
        assert response.status_code == 200
        assert len(links(response)) == 6
        assert links(response)[0] == products[3].pk
        page = response.content.decode()
        assert "1.000" in page
        assert 'data-picture="data:image/jpeg;base64,' in page  # drawn by the script
        assert "6 hits" in page
        assert products[3].image.url in page

    def test_fields_of_the_shop(self, looker, products):
        page = post(looker).content.decode()
        assert page.count("<dt>Price</dt>") == page.count("<dt>Loud name</dt>") == 6
        assert "<dd>13</dd>" in page
        assert "<dd>PRODUCT 3</dd>" in page
        assert "<dt>Category</dt>" in page

    def test_queries_do_not_grow_with_the_hits(self, looker, products):
        def queries():
            with CaptureQueriesContext(connection) as captured:
                post(looker)
            return len(captured)

        queries()
        few = queries()
        for n in range(6, 20):
            Product.objects.create(name="A", image=picture_file(n), category=products[0].category)
        embed_all()
        assert queries() == few

    def test_links_of_the_shop(self, looker, products):
        page = post(looker, code="<A&B>").content.decode()
        assert page.count('<a href="/admin/">Orders &lt;&lt;A&amp;B&gt;&gt;</a>') == 6
        assert page.count("<span>Coupon &amp; more</span>") == 6

    def test_by_the_picture_of_a_product(self, looker, products):
        page = post(looker).content.decode()
        assert f'href="?product={products[3].pk}"' in page
        response = looker.get(PAGE, {"product": products[2].pk, "code": "X"})
        assert response.status_code == 200
        assert len(links(response)) == 5
        assert products[2].pk not in links(response)
        assert "Orders &lt;X&gt;" in response.content.decode()

    def test_a_product_without_a_vector(self, looker):
        product = Product.objects.create(name="A", image=picture_file(1))
        page = looker.get(PAGE, {"product": product.pk}).content.decode()
        assert "this product has no vector yet" in page

    def test_a_part_of_the_photo(self, looker, products):
        whole = post(looker).content.decode()
        response = post(looker, left=0, top=0, right=25, bottom=25)
        page = response.content.decode()
        assert response.status_code == 200
        assert "by a part of the photo" in page
        assert "by a part of the photo" not in whole
        similarity = re.compile(r'title="Similarity">(-?\d\.\d{3})')
        assert similarity.findall(page) != similarity.findall(whole)
        assert "by a part" not in post(looker, left=0, top=0, right=100, bottom=100).content.decode()

    def test_how_many(self, looker, products):
        for n in range(6, 40):
            Product.objects.create(name="A", image=picture_file(n))
        embed_all()
        assert len(links(post(looker))) == 24
        assert len(links(post(looker, limit=48))) == 40
        assert post(looker, limit=10**9).status_code == 422
        assert len(links(looker.get(PAGE, {"product": products[0].pk, "limit": 48}))) == 39
        assert len(links(looker.get(PAGE, {"product": products[0].pk, "limit": "x"}))) == 24

    def test_ranking_rules_do_not_apply_to_staff(self, looker, products):
        RankingRule.objects.create(
            kind="hide", object_id=products[3].pk, content_type=ContentType.objects.get_for_model(Product)
        )
        assert links(post(looker))[0] == products[3].pk

    def test_only_products_of_the_admins_queryset(self, client, products):
        Product.objects.filter(pk=products[3].pk).update(is_published=False)
        client.force_login(staff())
        address = "/admin/testshop/publishedproduct/visual-search/"
        found = links(post(client, address=address), "publishedproduct")
        assert len(found) == 5
        assert products[3].pk not in found
        assert client.get(address, {"product": products[3].pk}).status_code == 404
        assert products[3].pk in links(post(client))

    def test_companions_show_the_picture_that_matched(self, client):
        article = Article.objects.create(title="A")
        first, second = (ArticleImage.objects.create(article=article, original=picture_file(n)) for n in (2, 3))
        embed_all(PICTURES)
        client.force_login(staff())
        page = post(client, address="/admin/testshop/article/visual-search/").content.decode()
        assert second.original.url in page
        assert first.original.url not in page

    def test_odd_names_are_escaped(self, looker, products, monkeypatch):
        monkeypatch.setattr(Product, "__str__", lambda self: self.name)
        Product.objects.update(name="<script>alert(1)</script>")
        page = post(looker).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        page = looker.get(PAGE, {"product": products[0].pk}).content.decode()
        assert "<script>alert" not in page

    def test_it_is_logged(self, looker, products):
        post(looker)
        looker.get(PAGE, {"product": products[0].pk})
        assert sorted(SearchLog.objects.values_list("kind", "results")) == [("photo", 6), ("product", 5)]


class TestRefused:
    def test_no_photo(self, looker):
        response = looker.post(PAGE, {})
        assert response.status_code == 422
        assert "Choose a photo first." in response.content.decode()

    @pytest.mark.parametrize(("data", "message"), [(b"", "The file is empty"), (b"no picture" * 99, "picture")])
    def test_no_picture(self, looker, products, data, message):
        response = post(looker, data)
        assert response.status_code == 422
        assert message in re.search(r'<ul class="errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)[1]
        assert links(response) == []

    def test_too_large(self, looker, products):
        response = post(looker, picture(1) + bytes(images.ImageOptions().max_bytes))
        assert response.status_code == 422
        assert "larger than" in response.content.decode()

    @pytest.mark.parametrize(
        ("crop", "message"),
        [
            ({"left": 60, "right": 40}, "left must be less than right"),
            ({"top": 100}, "top less than bottom"),
            ({"left": -1}, "greater than or equal to 0"),
            ({"bottom": "x"}, "whole number"),
            ({"left": 50, "right": 51, "top": 50, "bottom": 51}, "too small"),
        ],
    )
    def test_bad_crops(self, looker, products, crop, message):
        response = post(looker, **crop)
        assert response.status_code == 422
        page = response.content.decode()
        assert message in page
        assert '<details class="form-row" open>' in page

    def test_too_many_at_once(self, looker, products, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "PHOTO_SEARCHES_AT_ONCE": 1}
        with photo_slot():
            response = post(looker)
        assert response.status_code == 503
        assert int(response["Retry-After"]) >= 1
        assert "Too many photo searches" in response.content.decode()
        assert post(looker).status_code == 200

    def test_the_extractor_can_not_run(self, looker, products, settings):
        extractors = {"default": {"BACKEND": f"{__name__}.Unavailable"}}
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXTRACTORS": extractors}
        response = post(looker)
        assert response.status_code == 503
        assert "Photo search can&#x27;t run here: Install &lt;what&gt; is missing." in response.content.decode()

    @pytest.mark.parametrize("key", ["999999", "x", "%00", "1 OR 1=1", "99999999999999999999999"])
    def test_unknown_products(self, looker, key):
        assert looker.get(PAGE, {"product": key}).status_code == 404

    def test_a_nul_byte(self, looker):
        assert looker.get(PAGE, {"product": "\0"}).status_code == 404


class TestPermission:
    def test_view_permission(self, client, products):
        client.force_login(staff("testshop.view_category"))
        assert client.get(PAGE).status_code == 403
        assert post(client).status_code == 403
        client.force_login(staff("testshop.change_product"))
        assert client.get(PAGE).status_code == 200
        client.logout()
        assert client.get(PAGE).status_code == 302

    def test_csrf(self, products):
        client = Client(enforce_csrf_checks=True)
        client.force_login(staff())
        assert post(client).status_code == 403

    def test_page(self, looker):
        page = looker.get(PAGE).content.decode()
        assert "Choose a photo. Products that look most like it come first." in page
        content = page[page.index('id="content-main"') :]
        assert "<script" not in content.replace('<script src="', "")
        assert "style=" not in content
        assert '<script src="/static/django_visual_search/admin_photo.js" defer>' in page


def test_a_form_of_the_shops_own(looker, products, monkeypatch):
    class Form(StaffPhotoForm):
        customer = forms.EmailField(required=False)

    monkeypatch.setattr(ProductAdmin, "visual_search_form", Form)
    assert 'name="customer"' in looker.get(PAGE).content.decode()
    page = post(looker, customer="a+b@example.com").content.decode()
    assert f"?customer=a%2Bb%40example.com&amp;product={products[3].pk}" in page
    assert 'value="a+b@example.com"' in page
    response = looker.get(PAGE, {"product": products[0].pk, "customer": '"><script>'})
    assert "<script>" not in response.content.decode()
    assert post(looker, customer="no address").status_code == 422


def test_a_template_of_the_shops_own(looker, products, settings, monkeypatch, tmp_path):
    (tmp_path / "own.html").write_text(
        '{% extends "visual_search/admin/photo_page.html" %}'
        "{% block hit_links %}{{ block.super }}<b>{{ hit.product.price }} coins</b>{% endblock %}"
    )
    templates = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    settings.TEMPLATES = templates
    monkeypatch.setattr(ProductAdmin, "visual_search_template", "own.html")
    page = post(looker).content.decode()
    assert "<b>13 coins</b>" in page
    assert page.count("Coupon &amp; more") == 6


def test_several_at_once_all_get_a_response(products, transactional_db, settings):
    """Threads of one process: whoever gets no slot gets a 503, and nobody waits forever."""
    user, answers = staff(), []
    embed_all()

    def search():
        client = Client()
        client.force_login(user)
        answers.append(post(client).status_code)
        connections.close_all()

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6
    assert set(answers) <= {200, 503}
    assert 200 in answers
