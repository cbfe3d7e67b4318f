"""``VisualSearchMixin`` uses the viewset's queryset, filters, search, pages, serializer and permissions."""

import re

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from rest_framework import filters, viewsets
from rest_framework.permissions import (
    BasePermission,
    DjangoModelPermissionsOrAnonReadOnly,
    IsAdminUser,
    IsAuthenticatedOrReadOnly,
)

from django_visual_search import search
from django_visual_search.api import VisualSearchMixin
from django_visual_search.models import RankingRule, SearchLog

from ..shop_api import all_pages, data_url, ids, make_posters, make_products, photo, post_json, search_by_photo
from ..testshop.api import ProductViewSet
from ..testshop.models import Category, Product, Tag

pytestmark = pytest.mark.django_db
PHOTO = "/api/products/search-by-image/"


@pytest.fixture(autouse=True)
def fresh_rates():
    cache.clear()


def similar(client, product, **parameters):
    return client.get(f"/api/products/{product.pk}/similar/", parameters)


class TestSimilar:
    def test_hits_are_the_searchs(self, client):
        products = make_products(12)
        answer = similar(client, products[3])
        expected = search.similar_to(products[3], limit=5)
        assert ids(answer) == [str(hit.product.pk) for hit in expected]
        assert [hit["rank"] for hit in answer.json()["results"]] == [1, 2, 3, 4, 5]
        assert answer.json()["results"][0]["similarity"] == pytest.approx(expected[0].similarity, abs=1e-4)

    def test_the_viewsets_serializer_shows_the_products(self, client):
        hats = Category.objects.create(name="Hats")
        products = make_products(3, category=lambda i: hats)
        hit = similar(client, products[0]).json()["results"][0]
        product = Product.objects.get(pk=hit["id"])
        assert hit == {
            "id": str(product.pk),
            "rank": 1,
            "similarity": hit["similarity"],
            "confidence": None,
            "same_product": None,
            "reasons": ["visual"],
            "picture": {
                "id": str(product.pk),
                "url": f"http://testserver{product.image.url}",
                "thumbnail": f"http://testserver{product.image.url}",
            },
            "product": {
                "id": product.pk,
                "name": product.name,
                "category": {"id": hats.pk, "name": "Hats"},
                "price": product.price,
                "image": f"http://testserver{product.image.url}",
            },
        }

    def test_the_response_describes_the_search(self, client):
        product, *_ = make_products(3)
        answer = similar(client, product).json()
        assert answer["exact"] is True
        assert answer["extractor"].startswith("colour-")
        assert answer["next"] is None
        assert set(answer) == {"next", "token", "handle", "notice", "exact", "extractor", "facets", "results"}

    def test_four_queries_and_one_for_each_facet(self, client, settings, django_assert_max_num_queries):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_SEARCHES": False}  # written after the response
        products = make_products(12, category=lambda i: Category.objects.get_or_create(name=f"c{i % 3}")[0])
        similar(client, products[0])  # what a search remembers for a while
        with django_assert_max_num_queries(4 + len(ProductViewSet.visual_search_facets)):
            similar(client, products[0])

    def test_a_product_without_a_vector(self, client):
        make_products(3)
        bare = Product.objects.create(name="bare")
        answer = similar(client, bare)
        assert ids(answer) == []
        assert answer.json()["extractor"] == ""

    def test_hidden_products_are_neither_queries_nor_hits(self, client):
        products = make_products(4, is_published=lambda i: i != 2)
        assert similar(client, products[2]).status_code == 404
        assert str(products[2].pk) not in ids(similar(client, products[0]))

    def test_staff_may_search_by_a_hidden_product(self, client):
        products = make_products(4, is_published=lambda i: i != 2)
        client.force_login(User.objects.create_user("staff", is_staff=True))
        assert len(ids(similar(client, products[2]))) == 3

    def test_no_such_product(self, client):
        for pk in (0, 10**30, "x", "1%00"):
            assert client.get(f"/api/products/{pk}/similar/").status_code == 404

    def test_without_ranking(self, client):
        products = make_products(6)
        visual = ids(similar(client, products[0]))
        RankingRule.objects.create(kind="pin", slot=1, product=products[int(visual[-1]) - products[0].pk])
        ranked = similar(client, products[0])
        assert ids(ranked) == [visual[-1], *visual[:-1]]
        assert "pinned" in ranked.json()["results"][0]["reasons"]
        assert ids(similar(client, products[0], ranking="off")) == visual

    def test_minimum_similarity(self, client):
        products = make_products(8)
        everything = similar(client, products[0], limit=7).json()["results"]
        border = everything[3]["similarity"]
        kept = similar(client, products[0], limit=7, min_similarity=border - 1e-4).json()["results"]
        assert [hit["id"] for hit in kept] == [hit["id"] for hit in everything[:4]]

    def test_uuid_keys(self, client):
        posters = make_posters(4)
        answer = client.get(f"/api/posters/{posters[1].pk}/similar/")
        assert set(ids(answer)) == {str(poster.pk) for poster in posters} - {str(posters[1].pk)}

    def test_searches_are_logged(self, client):
        products = make_products(8)
        similar(client, products[0])
        search_by_photo(client, PHOTO)
        search_by_photo(client, PHOTO, text="product 1")
        client.get(similar(client, products[0]).json()["next"])
        kinds = [log.kind for log in SearchLog.objects.order_by("created_at")]
        assert kinds == ["product", "photo", "text", "product"]
        log = SearchLog.objects.earliest("created_at")
        assert (log.query_id, log.results) == (str(products[0].pk), 7)
        assert 0 < log.milliseconds < 60_000


class TestFilters:
    def test_django_filter_narrows_the_hits_and_not_the_product(self, client):
        products = make_products(10)
        answer = similar(client, products[9], price_max=4, limit=20)
        assert set(ids(answer)) == {str(product.pk) for product in products[:5]}

    def test_an_invalid_filter_value(self, client):
        product, *_ = make_products(2)
        answer = similar(client, product, category="hats")
        assert answer.status_code == 400
        assert "category" in answer.json()

    def test_search_box(self, client):
        products = make_products(12)
        assert ids(similar(client, products[0], search="product 11")) == [str(products[11].pk)]

    def test_what_the_search_box_refuses(self, client):
        product, *_ = make_products(2)
        answer = similar(client, product, search="a\0")
        assert answer.status_code == 400
        assert answer.json() == {"non_field_errors": ["Null characters are not allowed."]}

    def test_ordering_does_not_change_the_ranking(self, client):
        products = make_products(12)
        assert ids(similar(client, products[0], ordering="price")) == ids(similar(client, products[0]))

    @pytest.mark.parametrize("name", ["k", "page", "categroy", "price", "pk__in", "Limit", "limit[]"])
    def test_unknown_parameters(self, client, name):
        product, *_ = make_products(2)
        answer = similar(client, product, **{name: "1"})
        assert answer.status_code == 400
        ours, filters = (
            "limit, min_confidence, min_similarity",
            "ordering, price_max, price_min, ranking, search, tags, text",
        )
        accepted = f"category, cursor, format, {ours}, {filters}"
        assert answer.json() == {name: [f"Unknown parameter. Accepted parameters: {accepted}."]}
        assert search_by_photo(client, f"{PHOTO}?{name}=1").status_code == 400

    @pytest.mark.parametrize("name", ["utm_source", "gclid", "fbclid", "msclkid", "_ga", "ref", "mc_cid"])
    def test_tracking_parameters_are_ignored(self, client, name):
        products = make_products(8)
        plain, tracked = similar(client, products[0]), similar(client, products[0], price_max=5, **{name: "x" * 100})
        assert tracked.status_code == 200
        assert len(ids(tracked)) == len(ids(plain)) == 5
        assert len(all_pages(client, tracked)) == 5
        assert search_by_photo(client, f"{PHOTO}?{name}=1").status_code == 200
        assert similar(client, products[0], **{f"{name}{name}": "1"}).status_code == (200 if name[0] == "u" else 400)

    def test_a_tracking_parameter_that_the_shop_reads_stays(self, client, monkeypatch):
        monkeypatch.setattr(ProductViewSet, "visual_search_parameters", ["ref"])
        products = make_products(8)
        assert "ref=a" in similar(client, products[0], limit=2, ref="a").json()["next"]

    def test_the_request_keeps_its_parameters(self, client, monkeypatch):
        """Filters don't apply to the query product: for it they get a copy of the request."""
        listed, filtered = [], []

        class Spy(filters.BaseFilterBackend):
            def filter_queryset(self, request, queryset, view):
                filtered.append((request.query_params.dict(), request.GET.dict(), str(request.user)))
                return queryset

        def get_queryset(view):
            listed.append(view.request.query_params.dict())
            return Product.objects.all()

        products = make_products(8)
        monkeypatch.setattr(ProductViewSet, "filter_backends", [Spy])
        monkeypatch.setattr(ProductViewSet, "get_queryset", get_queryset)
        monkeypatch.setattr(ProductViewSet, "visual_search_parameters", ["x"])
        answer = similar(client, products[0], x="1")
        assert answer.status_code == 200
        assert all(query == {"x": "1"} for query in listed)
        assert filtered == [({}, {}, "AnonymousUser"), ({"x": "1"}, {"x": "1"}, "AnonymousUser")]
        assert answer.wsgi_request.GET.dict() == {"x": "1"}

    def test_undeclared_parameters_of_the_shop(self, client, monkeypatch):
        product, *_ = make_products(2)
        monkeypatch.setattr(ProductViewSet, "visual_search_parameters", ["channel"])
        assert similar(client, product, channel="b").status_code == 200
        assert similar(client, product, canal="b").status_code == 400
        monkeypatch.setattr(ProductViewSet, "visual_search_parameters", None)
        assert similar(client, product, canal="b").status_code == 200


class TestPhoto:
    def test_a_file(self, client):
        make_products(12)
        expected = search.search_by_image(photo(7), "testshop.Product", limit=5)
        assert ids(search_by_photo(client, PHOTO, 7)) == [str(hit.product.pk) for hit in expected]

    def test_a_data_url(self, client):
        make_products(12)
        answer = post_json(client, PHOTO, {"image": data_url(7), "limit": 3})
        assert ids(answer) == ids(search_by_photo(client, PHOTO, 7, limit=3))
        assert len(ids(answer)) == 3

    def test_crop(self, client):
        make_products(12)
        box = (0.25, 0.25, 0.75, 0.5)
        expected = search.search_by_image(photo(7), "testshop.Product", limit=5, crop=box)
        expected = [str(hit.product.pk) for hit in expected]
        assert ids(search_by_photo(client, PHOTO, 7, crop="0.25,0.25,0.75,0.5")) == expected
        assert ids(post_json(client, PHOTO, {"image": data_url(7), "crop": box})) == expected
        assert ids(search_by_photo(client, PHOTO, 7)) != expected

    def test_hidden_products_are_not_found(self, client):
        products = make_products(4, is_published=lambda i: i != 2)
        assert str(products[2].pk) not in ids(search_by_photo(client, PHOTO))

    def test_filters_come_from_the_url(self, client):
        products = make_products(10)
        answer = search_by_photo(client, f"{PHOTO}?price_min=8")
        assert set(ids(answer)) == {str(products[8].pk), str(products[9].pk)}

    def test_text_narrows_like_the_search_box(self, client):
        products = make_products(12)
        products[4].tags.add(Tag.objects.create(name="blue"), Tag.objects.create(name="blueish"))
        assert ids(search_by_photo(client, PHOTO, text="blue")) == [str(products[4].pk)]
        assert ids(search_by_photo(client, PHOTO, text="blue product")) == [str(products[4].pk)]
        assert ids(search_by_photo(client, PHOTO, text="blue 5")) == []

    def test_no_text_without_search_fields_and_text_search(self, client):
        answer = search_by_photo(client, "/api/posters/search-by-image/", text="blue")
        assert answer.status_code == 400
        assert answer.json() == {"text": ["Search by text has not been set up here."]}


class TestPages:
    def test_page_sizes_come_from_the_viewset(self, client):
        products = make_products(60)
        assert len(ids(similar(client, products[0]))) == 5
        assert len(ids(similar(client, products[0], limit=50))) == 50
        answer = similar(client, products[0], limit=51)
        assert answer.status_code == 400
        assert answer.json() == {"limit": ["This must be a whole number from 1 to 50."]}

    def test_without_pages(self, client):
        posters = make_posters(20)
        path = f"/api/posters/{posters[0].pk}/similar/"
        assert len(ids(client.get(path))) == 12
        assert client.get(path, {"limit": 101}).json() == {"limit": ["This must be a whole number from 1 to 100."]}


class TestPermissions:
    @pytest.mark.parametrize("permission", [IsAuthenticatedOrReadOnly, DjangoModelPermissionsOrAnonReadOnly])
    def test_searching_by_photo_needs_read_permission_only(self, client, monkeypatch, permission):
        make_products(2)
        monkeypatch.setattr(ProductViewSet, "permission_classes", [permission])
        assert search_by_photo(client, PHOTO).status_code == 200

    def test_permissions_of_the_viewset(self, client, monkeypatch):
        product, *_ = make_products(2)
        monkeypatch.setattr(ProductViewSet, "permission_classes", [IsAdminUser])
        assert similar(client, product).status_code == 403
        assert search_by_photo(client, PHOTO).status_code == 403
        client.force_login(User.objects.create_user("staff", is_staff=True))
        assert similar(client, product).status_code == 200

    def test_permissions_of_one_product(self, client, monkeypatch):
        class NotTheFirst(BasePermission):
            def has_object_permission(self, request, view, product):
                return product.price != 0

        products = make_products(3)
        monkeypatch.setattr(ProductViewSet, "permission_classes", [NotTheFirst])
        assert similar(client, products[0]).status_code == 403
        assert similar(client, products[1]).status_code == 200


def test_in_the_browsable_api(client):
    product, *_ = make_products(3)
    for path in (f"/api/products/{product.pk}/similar/", PHOTO, "/visual-search/testshop/product/search-by-image/"):
        answer = client.get(path, headers={"accept": "text/html"})
        assert answer.status_code == (400 if "search-by-image" in path else 200)
        assert b"Similar" in answer.content or b"cursor_missing" in answer.content
    assert client.options(PHOTO).status_code == 200
    assert client.head(f"/api/products/{product.pk}/similar/").status_code == 200


class TestBrowsableAPI:
    """The browsable API and OPTIONS show the photo's form, not the product's."""

    @pytest.mark.parametrize("path", [PHOTO, "/visual-search/testshop/product/search-by-image/"])
    def test_the_form(self, client, path):
        answer = client.get(path, headers={"accept": "text/html"})
        assert answer.status_code == 400
        page = answer.content.decode()
        (field,) = re.findall(r'<input name="image"[^>]*>', page)
        assert 'type="file"' in field
        assert 'name="limit"' in page
        assert 'name="name"' not in page
        assert 'name="text"' in page

    def test_a_form_with_fields_left_empty(self, client):
        make_products(8)
        left = dict.fromkeys(["limit", "min_similarity", "crop", "text"], "")
        answer = client.post(PHOTO, {"image": photo(), **left}, headers={"accept": "text/html"})
        assert answer.status_code == 200
        answer = client.post(PHOTO, {"image": photo(), **left})
        assert len(answer.json()["results"]) == 5
        answer = client.post(PHOTO, {"image": "", **left})
        assert answer.status_code == 400
        assert "multipart/form-data" in answer.json()["image"][0]

    def test_the_pages_of_hits(self, client):
        product, *_ = make_products(8)
        answer = client.get(f"/api/products/{product.pk}/similar/", headers={"accept": "text/html"})
        assert answer.status_code == 200

    def test_options(self, client):
        fields = client.options(PHOTO).json()["actions"]["POST"]
        assert {"image", "crop", "limit", "min_confidence", "min_similarity", "objects", "ranking", "text"} == set(
            fields
        )
        assert fields["image"]["required"] is True

    def test_the_mixin_comes_first(self):
        """After the viewset, its limits would silently fail."""
        with pytest.raises(TypeError, match="VisualSearchMixin must come before"):
            type("Last", (viewsets.ReadOnlyModelViewSet, VisualSearchMixin), {})
        first = type("First", (VisualSearchMixin, viewsets.ReadOnlyModelViewSet), {})
        assert type("Between", (first, viewsets.ModelViewSet), {})
