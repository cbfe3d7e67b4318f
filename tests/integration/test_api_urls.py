"""``include("django_visual_search.urls")``: the API for shops without one, limited by ``VISIBLE``."""

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from django_visual_search.storefront.cards import url_of

from ..shop_api import all_pages, data_url, ids, make_articles, make_posters, make_products, post_json, search_by_photo
from ..testshop.models import Article, ArticleImage, Product, Spare

pytestmark = pytest.mark.django_db
PHOTO = "/visual-search/testshop/product/search-by-image/"


@pytest.fixture(autouse=True)
def fresh_rates():
    cache.clear()


def similar(client, product, **parameters):
    opts = product._meta
    path = reverse("visual_search:similar", args=[opts.app_label, opts.model_name, product.pk])
    return client.get(path, parameters)


def first_three(request):
    """Return a sliced queryset, as VISIBLE may."""
    return Product.objects.order_by("pk")[:3]


def either(request):
    """Return a union, which can't be filtered."""
    return Product.objects.filter(price=1).union(Product.objects.filter(price=2))


class TestSimilar:
    def test_default_serializer(self, client, monkeypatch):
        monkeypatch.setattr(Product, "get_absolute_url", lambda self: f"/shop/{self.pk}/", raising=False)
        monkeypatch.setattr(Product, "__str__", lambda self: self.name.upper())
        products = make_products(14)
        answer = similar(client, products[0])
        hit = answer.json()["results"][0]
        product = Product.objects.get(pk=hit["id"])
        assert hit["product"] == {
            "id": str(product.pk),
            "title": product.name.upper(),
            "url": f"http://testserver{url_of(product)}",
        }
        assert hit["picture"]["url"] == f"http://testserver{product.image.url}"
        assert len(ids(answer)) == 12
        assert answer.json()["facets"] == {}
        assert len(all_pages(client, answer)) == 13

    def test_thumbnails_are_the_shops(self, client, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "THUMBNAIL": lambda picture, size: f"/t/{picture.name}"}
        products = make_products(2)
        picture = similar(client, products[0]).json()["results"][0]["picture"]
        assert picture["thumbnail"] == "http://testserver/t/products/1.jpg"

    def test_which_picture_matched(self, client):
        articles = make_articles(5, pictures=3)
        for hit in similar(client, articles[0]).json()["results"]:
            matched = ArticleImage.objects.get(pk=hit["picture"]["id"])
            assert str(matched.article_id) == hit["id"]
            assert hit["picture"]["url"] == f"http://testserver{matched.original.url}"
            assert hit["product"]["title"] == str(matched.article)

    @pytest.mark.parametrize("sku", ["A/B 1", "a b", "é", "%2F", "similar"])
    def test_keys_of_any_characters(self, client, sku):
        Spare.objects.create(sku=sku)
        assert similar(client, Spare.objects.get()).status_code == 200

    def test_a_product_whose_picture_is_gone(self, client):
        products = make_products(3)
        Product.objects.filter(pk=products[1].pk).update(image="")
        pictures = {hit["id"]: hit["picture"] for hit in similar(client, products[0]).json()["results"]}
        assert pictures[str(products[1].pk)] is None


class TestVisible:
    def test_decides(self, client):
        products = make_products(4, is_published=lambda i: i != 2)
        assert similar(client, products[2]).status_code == 404
        assert set(ids(similar(client, products[0]))) == {str(products[1].pk), str(products[3].pk)}
        assert str(products[2].pk) not in ids(search_by_photo(client, PHOTO))

    def test_depends_on_the_visitor(self, client):
        products = make_products(4, is_published=lambda i: i != 2)
        client.force_login(User.objects.create_user("staff", is_staff=True))
        assert len(ids(similar(client, products[2]))) == 3

    @pytest.mark.parametrize(("function", "kept"), [(first_three, {0, 1, 2}), (either, {1, 2})])
    def test_any_queryset(self, client, settings, function, kept):
        visible = {**settings.VISUAL_SEARCH["VISIBLE"], "testshop.Product": function}
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        products = make_products(6)
        allowed = {str(products[i].pk) for i in kept}
        assert set(ids(search_by_photo(client, PHOTO))) == allowed
        assert set(ids(similar(client, products[1]))) == allowed - {str(products[1].pk)}
        first = search_by_photo(client, PHOTO, limit=1)
        assert {hit["id"] for hit in all_pages(client, first)} == allowed

    def test_later_pages_of_a_union(self, client, settings):
        """A union can't be filtered, and yet page 2 must not have products hidden after page 1."""
        visible = {**settings.VISUAL_SEARCH["VISIBLE"], "testshop.Product": either}
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        make_products(6, price=lambda i: 1 + i % 2)
        first = search_by_photo(client, PHOTO, limit=1)
        Product.objects.exclude(pk__in=ids(first)).update(price=9)
        assert len(all_pages(client, first)) == 1

    @pytest.mark.parametrize(
        "path",
        [
            "/visual-search/testshop/category/1/similar/",  # without pictures
            "/visual-search/testshop/articleimageembedding/1/similar/",  # not a product
            "/visual-search/testshop/featuredproduct/1/similar/",  # a proxy, which VISIBLE may not limit
            "/visual-search/auth/user/1/similar/",
            "/visual-search/nowhere/product/1/similar/",
            "/visual-search/testshop/product/0/similar/",
            "/visual-search/testshop/product/x/similar/",
            "/visual-search/testshop/product/%00/similar/",
            "/visual-search/testshop/spare/%00/similar/",
            "/visual-search/testshop/spare/a%00b/similar/",
            "/visual-search/testshop/poster/1/similar/",
            f"/visual-search/testshop/product/{10**400}/similar/",
            "/visual-search/%00/product/1/similar/",
        ],
    )
    def test_unknown_models_and_products(self, client, path):
        make_products(2)
        assert client.get(path).status_code == 404

    def test_models_without_products_take_no_photos(self, client):
        assert search_by_photo(client, "/visual-search/auth/user/search-by-image/").status_code == 404


class TestPhoto:
    def test_file_and_data_url(self, client):
        make_products(20)
        found = ids(search_by_photo(client, PHOTO, 4))
        assert len(found) == 12
        assert ids(post_json(client, PHOTO, {"image": data_url(4)})) == found

    def test_every_model(self, client):
        make_posters(3)
        make_articles(3)
        assert len(ids(search_by_photo(client, "/visual-search/testshop/poster/search-by-image/"))) == 3
        Article.objects.update(is_public=False)
        assert ids(search_by_photo(client, "/visual-search/testshop/article/search-by-image/")) == []

    def test_no_filters_and_no_text(self, client):
        make_products(2)
        answer = search_by_photo(client, PHOTO, text="hat")
        assert answer.json() == {"text": ["Search by text has not been set up here."]}
        assert search_by_photo(client, f"{PHOTO}?category=1").status_code == 400


def test_open_to_all_whatever_the_projects_default_is(client, monkeypatch):
    """The shop's pages are public; VISIBLE limits what they show."""
    product, *_ = make_products(3)
    monkeypatch.setattr(APIView, "permission_classes", [IsAuthenticated])  # as DEFAULT_PERMISSION_CLASSES does
    assert similar(client, product).status_code == 200
    assert search_by_photo(client, PHOTO).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_only_reading(client, method):
    product, *_ = make_products(1)
    path = f"/visual-search/testshop/product/{product.pk}/similar/"
    assert getattr(client, method)(path).status_code == 405
