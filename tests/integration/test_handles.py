"""Query handles: a photo is sent and embedded once; further searches by it need its handle alone."""

import datetime

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone

from django_visual_search import search
from django_visual_search.decoding import photos
from django_visual_search.search.query import Query
from django_visual_search.storefront import HandleExpired, handle_of, search_by_handle, search_by_photo

from ..conftest import picture
from ..shop_api import all_pages, ids, make_posters, make_products
from ..shop_api import search_by_photo as post_photo
from ..testshop.models import Category, Product
from ..visits import moved_to

pytestmark = pytest.mark.django_db
PHOTO = "/api/products/search-by-image/"
LABEL = "testshop.Product"


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.clear()


@pytest.fixture
def nobody():
    """A request of a visitor who has not logged in."""
    return visitor()


def visitor(user=None):
    request = HttpRequest()
    request.user = user
    return request


def found(results):
    return [(hit.product.pk, hit.similarity, hit.rank) for hit in results]


class TestStorefront:
    def test_the_same_hits_without_the_photo(self, nobody, monkeypatch):
        make_products(30)
        sent = search_by_photo(picture(1), LABEL, nobody, within=Product.objects.all())
        handle = handle_of(sent, nobody)
        monkeypatch.setattr(photos, "decode_photo", None)
        again = search_by_handle(handle, LABEL, nobody, within=Product.objects.all())
        assert found(again) == found(sent)
        assert again.ranking.search == sent.ranking.search

    def test_only_the_vectors_are_kept(self, nobody):
        make_products(3)
        results = search_by_photo(picture(1), LABEL, nobody)
        handle = handle_of(results, nobody)
        kept = cache.get(f"visual_search.handle.{results.ranking.search}")
        assert len(repr(kept)) < 1500
        assert len(kept["queries"][0][2]) == 48 * 4
        assert len(handle) < 100

    def test_filters_and_another_search_of_the_log(self, nobody):
        make_products(30)
        handle = handle_of(search_by_photo(picture(1), LABEL, nobody), nobody)
        cheap = Product.objects.filter(price__lt=10)
        searches = [
            search_by_handle(handle, LABEL, nobody, within=within, options=options).ranking.search
            for within, options in [(None, []), (cheap, ["price<10"]), (cheap, ["price<10"])]
        ]
        assert searches[0] != searches[1] == searches[2]
        hits = search_by_handle(handle, LABEL, nobody, within=cheap)
        assert {hit.product.price for hit in hits} == set(range(10))

    def test_what_is_visible_is_asked_each_time(self, nobody):
        products = make_products(5)
        handle = handle_of(search_by_photo(picture(1), LABEL, nobody), nobody)
        within = Product.objects.filter(is_published=True)
        Product.objects.filter(pk=products[0].pk).update(is_published=False)
        assert products[0] not in [hit.product for hit in search_by_handle(handle, LABEL, nobody, within=within)]

    def test_no_handle_of_other_searches(self, nobody):
        product, *_ = make_products(3)
        assert handle_of(search.similar_to(product), nobody) == ""

    @pytest.mark.parametrize("use", ["altered", "field", "user", "old", "gone", "space"])
    def test_does_not_hold(self, use, nobody):
        make_products(3)
        make_posters(3)
        handle, label, asks = handle_of(search_by_photo(picture(1), LABEL, nobody), nobody), LABEL, nobody
        later = timezone.now()
        if use == "altered":
            handle = "0" * 32 + handle[32:]
        elif use == "field":
            label = "testshop.Poster"
        elif use == "user":
            asks = visitor(get_user_model().objects.create(username="staff", is_staff=True))
        elif use == "old":
            later += datetime.timedelta(seconds=1801)
        elif use == "gone":
            cache.clear()
        elif use == "space":
            results = search_by_photo(picture(1), LABEL, nobody)
            results.queries = [Query(results.vector, "classic-of-last-year")]
            handle = handle_of(results, nobody)
        with moved_to(later), pytest.raises(HandleExpired):
            search_by_handle(handle, label, asks)

    def test_a_cache_that_fails_costs_the_handle_alone(self, nobody, settings, caplog):
        make_products(3)
        nobody_listens = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
        settings.CACHES = {"default": nobody_listens}
        results = search_by_photo(picture(1), LABEL, nobody)
        assert len(results) == 3
        assert handle_of(results, nobody) == ""
        assert "the cache keeps no query" in caplog.text


class TestAPI:
    def test_filters_facets_and_pages(self, client):
        hats = Category.objects.create(name="Hats")
        make_products(30, category=lambda i: hats if i % 2 else None)
        sent = post_photo(client, PHOTO, limit=7)
        handle = sent.json()["handle"]
        again = client.get(PHOTO, {"handle": handle, "limit": 7})
        assert ids(again) == ids(sent)
        assert (again.json()["facets"], again.json()["handle"]) == (sent.json()["facets"], handle)
        filtered = client.get(PHOTO, {"handle": handle, "category": hats.pk, "limit": 7})
        hits = all_pages(client, filtered)
        assert len(hits) == 15
        whole = [hit["id"] for hit in all_pages(client, sent)]
        kept = {str(pk) for pk in Product.objects.filter(category=hats).values_list("pk", flat=True)}
        assert [hit["id"] for hit in hits] == [pk for pk in whole if pk in kept]

    def test_refused(self, client):
        make_products(3)
        handle = post_photo(client, PHOTO).json()["handle"]
        assert client.get(PHOTO, {"handle": handle, "colour": "red"}).status_code == 400
        cache.clear()
        answer = client.get(PHOTO, {"handle": handle})
        assert (answer.status_code, answer.json()["code"]) == (410, "handle_expired")

    def test_objects_have_handles_of_their_own(self, client):
        make_products(12)
        sent = post_photo(client, PHOTO, objects="true")
        for one in sent.json()["objects"]:
            assert ids(client.get(PHOTO, {"handle": one["handle"]})) == [hit["id"] for hit in one["results"]]
