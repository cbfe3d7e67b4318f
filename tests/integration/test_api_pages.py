"""Pages of one ranking have no hit twice and lose none, whatever happens to the rows between pages."""

import datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import signing
from django.core.cache import cache
from django.utils import timezone

from django_visual_search import feedback, search
from django_visual_search.api.answers import LONGEST_URL
from django_visual_search.search import results

from ..shop_api import (
    all_pages,
    ids,
    make_articles,
    make_posters,
    make_products,
    photo,
    search_by_photo,
    unit_vectors,
)
from ..testshop.api import PosterViewSet
from ..testshop.models import Product
from ..visits import moved_to

pytestmark = pytest.mark.django_db
PHOTO = "/api/products/search-by-image/"


@pytest.fixture(autouse=True)
def fresh_rates():
    cache.clear()


def whole_order(product, **kwargs):
    return [str(hit.product.pk) for hit in search.similar_to(product, limit=100, **kwargs)]


def similar(client, product, **parameters):
    return client.get(f"/api/products/{product.pk}/similar/", parameters)


def cursor_of(answer):
    return parse_qs(urlsplit(answer.json()["next"]).query)["cursor"][0]


class TestPages:
    @pytest.mark.parametrize("limit", [1, 7, 20, 50])
    def test_all_pages_are_the_ranking(self, client, limit):
        products = make_products(51)
        order = whole_order(products[0])
        found = all_pages(client, similar(client, products[0], limit=limit))
        assert [hit["id"] for hit in found] == order
        assert [hit["rank"] for hit in found] == list(range(1, 51))

    def test_of_a_search_by_photo(self, client):
        make_products(30)
        order = [str(hit.product.pk) for hit in search.search_by_image(photo(), "testshop.Product", limit=30)]
        assert [hit["id"] for hit in all_pages(client, search_by_photo(client, PHOTO, limit=7))] == order

    def test_as_deep_as_the_setting_says(self, client, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "PAGE_DEPTH": 12}
        products = make_products(30)
        assert len(all_pages(client, similar(client, products[0], limit=5))) == 12
        assert len(all_pages(client, similar(client, products[0], limit=20))) == 20

    def test_rows_added_deleted_and_hidden_between_pages(self, client):
        products = make_products(41)
        order = whole_order(products[0])
        answer = similar(client, products[0], limit=10)
        first = ids(answer)
        nearest = Product.objects.get(pk=products[0].pk)
        for i in range(30):  # nearer than all others, so that all ranks change
            Product.objects.create(
                name="new", image="n.jpg", embedding=nearest.embedding, embedding_key=nearest.embedding_key, price=i
            )
        Product.objects.filter(pk=order[0]).delete()  # on page 1
        Product.objects.filter(pk=order[12]).delete()
        Product.objects.filter(pk=order[14]).update(is_published=False)
        later = [hit["id"] for hit in all_pages(client, answer)]
        assert later == [pk for pk in order if pk not in (order[12], order[14])]
        assert later[:10] == first

    def test_vectors_changed_between_pages(self, client):
        products = make_products(21)
        order = whole_order(products[0])
        answer = similar(client, products[0], limit=5)
        for product, vector in zip(products[1:], unit_vectors(20, seed=9), strict=True):
            Product.objects.filter(pk=product.pk).update(embedding=vector)
        assert [hit["id"] for hit in all_pages(client, answer)] == order

    def test_a_page_is_full_though_products_were_hidden(self, client):
        products = make_products(31)
        order = whole_order(products[0])
        answer = similar(client, products[0], limit=5)
        Product.objects.filter(pk__in=order[5:15]).update(is_published=False)
        second = client.get(answer.json()["next"])
        assert ids(second) == order[15:20]
        assert [hit["rank"] for hit in second.json()["results"]] == [16, 17, 18, 19, 20]

    def test_the_end_where_all_later_products_were_hidden(self, client):
        products = make_products(12)
        answer = similar(client, products[0], limit=5)
        Product.objects.exclude(pk=products[0].pk).update(is_published=False)
        second = client.get(answer.json()["next"])
        assert ids(second) == []
        assert second.json()["next"] is None

    def test_filters_stay_and_may_change(self, client):
        products = make_products(30)
        answer = similar(client, products[0], limit=5, price_min=10)
        assert "price_min=10" in answer.json()["next"]
        assert len(all_pages(client, answer)) == 20
        narrower = client.get(answer.json()["next"] + "&price_max=12")
        assert set(ids(narrower)) <= {str(product.pk) for product in products[10:13]}

    def test_the_photo_and_the_text_are_not_needed_again(self, client):
        make_products(30)
        answer = search_by_photo(client, PHOTO, limit=3, text="product 1", min_similarity=0.1)
        found = all_pages(client, answer)
        assert len(found) > 3
        assert all("1" in hit["product"]["name"] for hit in found)

    def test_companions_with_several_pictures(self, client):
        articles = make_articles(20)
        answer = client.get(f"/visual-search/testshop/article/{articles[0].pk}/similar/", {"limit": 6})
        found = all_pages(client, answer)
        assert len({hit["id"] for hit in found}) == len(found) == 19
        assert all(hit["picture"]["id"] for hit in found)

    def test_pages_are_limited_too(self, client):
        products = make_products(30)
        following = similar(client, products[0]).json()["next"]
        answer = client.get(following.replace("limit=5", "limit=51"))
        assert answer.json() == {"limit": ["This must be a whole number from 1 to 50."]}
        answer = client.get(following + "&min_similarity=0.5")
        assert answer.status_code == 400
        assert "cursor" in answer.json()["min_similarity"][0]


class TestNextURL:
    def line(self, answer):
        return answer.json()["next"].removeprefix("http://testserver")

    def test_fits_a_request_line_with_long_keys(self, client):
        posters = make_posters(120)
        answer = client.get(f"/api/posters/{posters[0].pk}/similar/", {"limit": 5})
        assert len(self.line(answer)) <= LONGEST_URL < 4094 - len("GET  HTTP/1.1")
        assert len(all_pages(client, answer)) == 100

    def test_fewer_places_where_the_url_would_be_too_long(self, client, monkeypatch):
        """A shop's filters are in the address as well."""
        monkeypatch.setattr(PosterViewSet, "visual_search_parameters", ["note"])
        posters = make_posters(120)
        answer = client.get(f"/api/posters/{posters[0].pk}/similar/", {"limit": 5, "note": "x" * 2000})
        assert LONGEST_URL * 0.9 < len(self.line(answer)) <= LONGEST_URL
        found = [hit["id"] for hit in all_pages(client, answer)]
        assert 30 < len(found) < 100
        assert found == whole_order(posters[0])[: len(found)]

    def test_shown_places_are_not_carried(self, client):
        posters = make_posters(120)
        answer = client.get(f"/api/posters/{posters[0].pk}/similar/", {"limit": 30})
        second = client.get(answer.json()["next"])
        assert len(self.line(second)) < len(self.line(answer)) - 500


class TestCursor:
    def refused(self, answer, code):
        assert answer.status_code == 400
        assert answer.json()["code"] == code
        assert answer.json()["detail"].endswith(".")
        return True

    @pytest.mark.parametrize("cursor", ["", "x", "a:b:c", "\0", "é", "." * 3000, ".eJw:1:2"])
    def test_invalid(self, client, cursor):
        product, *_ = make_products(3)
        assert self.refused(similar(client, product, cursor=cursor), "cursor_invalid")
        assert self.refused(client.get(PHOTO, {"cursor": cursor}), "cursor_invalid")

    def test_altered(self, client):
        products = make_products(12)
        cursor = cursor_of(similar(client, products[0]))
        altered = ("A" if cursor[0] != "A" else "B") + cursor[1:]
        assert self.refused(similar(client, products[0], cursor=altered), "cursor_invalid")

    def test_signed_for_another_purpose(self, client):
        product, *_ = make_products(3)
        cursor = signing.dumps({"n": 1}, salt="something.else", compress=True)
        assert self.refused(similar(client, product, cursor=cursor), "cursor_invalid")

    def test_too_old(self, client):
        products = make_products(12)
        cursor = cursor_of(similar(client, products[0]))
        with moved_to(timezone.now() + datetime.timedelta(seconds=results.TOKEN_MAX_AGE + 5)):
            assert self.refused(similar(client, products[0], cursor=cursor), "cursor_expired")

    def test_of_another_product(self, client):
        products = make_products(12)
        cursor = cursor_of(similar(client, products[0]))
        assert self.refused(similar(client, products[1], cursor=cursor), "cursor_foreign")

    def test_of_another_model(self, client):
        products, posters = make_products(12), make_posters(12)
        cursor = cursor_of(similar(client, products[0]))
        answer = client.get(f"/api/posters/{posters[0].pk}/similar/", {"cursor": cursor})
        assert self.refused(answer, "cursor_foreign")
        cursor = cursor_of(search_by_photo(client, PHOTO, limit=3))
        assert self.refused(client.get("/api/posters/search-by-image/", {"cursor": cursor}), "cursor_foreign")

    def test_of_the_other_action(self, client):
        products = make_products(12)
        assert self.refused(client.get(PHOTO, {"cursor": cursor_of(similar(client, products[0]))}), "cursor_foreign")
        cursor = cursor_of(search_by_photo(client, PHOTO, limit=3))
        assert self.refused(similar(client, products[0], cursor=cursor), "cursor_foreign")

    def test_missing(self, client):
        assert self.refused(client.get(PHOTO), "cursor_missing")

    def test_a_product_that_was_hidden(self, client):
        products = make_products(12)
        following = similar(client, products[0]).json()["next"]
        Product.objects.filter(pk=products[0].pk).update(is_published=False)
        assert client.get(following).status_code == 404


class TestToken:
    def test_carries_only_the_places_of_its_page(self, client, rf):
        products = make_products(30)
        first = similar(client, products[0], limit=5)
        second = client.get(first.json()["next"])
        for answer, ranks in ((first, range(5)), (second, range(5, 10))):
            ranking = results.read_token(answer.json()["token"])
            carried = [place.product_pk for place in ranking.places if place.product_pk]
            assert carried == ids(answer)
            assert [i for i, place in enumerate(ranking.places) if place.product_pk] == list(ranks)
        request = rf.get("/")
        offered, other = ids(second)[0], ids(first)[0]
        assert feedback.report(request, second.json()["token"], [("click", offered)]).counted == 1
        for product in (other, "", "0"):
            with pytest.raises(feedback.NotOffered):
                feedback.report(request, second.json()["token"], [("click", product)])
