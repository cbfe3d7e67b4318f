"""Facets count all hits, visible products only, by one query each."""

import pytest
from django.core.cache import cache
from django.core.exceptions import FieldDoesNotExist

from django_visual_search import search
from django_visual_search.fields.registry import get_field
from django_visual_search.storefront.facets import count_facets

from ..shop_api import FIELD, make_articles, make_products, photo, search_by_photo
from ..testshop.models import Article, Category, Product, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_rates():
    cache.clear()


@pytest.fixture
def shop():
    """20 products: 8 hats, 7 bags, 5 without a category; every third blue, every second red."""
    hats, bags = Category.objects.create(name="Hats"), Category.objects.create(name="Bags")
    products = make_products(20, category=lambda i: hats if i < 8 else bags if i < 15 else None)
    blue, red = Tag.objects.create(name="blue"), Tag.objects.create(name="red")
    for i, product in enumerate(products):
        product.tags.add(*[tag for tag, step in ((blue, 3), (red, 2)) if i % step == 0])
    return products, hats, bags


def as_counts(facet):
    return {value["label"]: value["count"] for value in facet}


class TestOverTheAPI:
    def test_of_the_whole_ranking(self, client, shop):
        _, hats, bags = shop
        answer = search_by_photo(client, "/api/products/search-by-image/", limit=3).json()
        assert answer["facets"] == {
            "category": [
                {"value": hats.pk, "label": f"Category object ({hats.pk})", "count": 8},
                {"value": bags.pk, "label": f"Category object ({bags.pk})", "count": 7},
                {"value": None, "label": None, "count": 5},
            ],
            "tags__name": [
                {"value": "red", "label": "red", "count": 10},
                {"value": "blue", "label": "blue", "count": 7},
                {"value": None, "label": None, "count": 7},
            ],
            "is_published": [{"value": True, "label": "True", "count": 20}],
        }

    def test_of_visible_products_only(self, client, shop):
        products = shop[0]
        Product.objects.filter(pk__in=[product.pk for product in products[:6]]).update(is_published=False)
        answer = client.get(f"/api/products/{products[19].pk}/similar/").json()
        assert [value["count"] for value in answer["facets"]["category"]] == [7, 4, 2]
        assert answer["facets"]["is_published"] == [{"value": True, "label": "True", "count": 13}]

    def test_of_the_hits_under_the_filter(self, client, shop):
        _, _, bags = shop
        answer = search_by_photo(client, f"/api/products/search-by-image/?category={bags.pk}", text="red").json()
        assert answer["facets"]["category"][0]["count"] == 4
        assert as_counts(answer["facets"]["tags__name"]) == {"red": 4, "blue": 1}

    def test_on_the_first_page_only(self, client, shop):
        answer = search_by_photo(client, "/api/products/search-by-image/", limit=3).json()
        assert client.get(answer["next"]).json()["facets"] is None

    def test_without_hits(self, client):
        answer = search_by_photo(client, "/api/products/search-by-image/").json()
        assert answer["facets"] == {"category": [], "tags__name": [], "is_published": []}


class TestPaths:
    def ranking(self, within, label=FIELD):
        return search.search_by_image(photo(), label, limit=5, depth=100, within=within).ranking

    def count(self, path, within, label=FIELD):
        return as_counts(count_facets([path], get_field(label), within, self.ranking(within, label))[path])

    def test_over_a_relation(self, shop):
        assert self.count("category__name", Product.objects.all()) == {"Hats": 8, "Bags": 7, None: 5}

    @pytest.mark.parametrize("path", ["category", "category__name", "tags", "price"])
    def test_one_query(self, shop, path, django_assert_num_queries):
        within = Product.objects.filter(is_published=True).select_related("category").prefetch_related("tags")
        ranking = self.ranking(within)
        with django_assert_num_queries(1):
            count_facets([path], get_field(FIELD), within, ranking)

    @pytest.mark.parametrize(
        "within",
        [
            lambda: Product.objects.filter(tags__name__in=["red", "blue"]).distinct(),
            lambda: Product.objects.filter(tags__name__in=["red", "blue"]),
            lambda: Product.objects.filter(tags__name="red").union(Product.objects.filter(tags__name="blue")),
        ],
    )
    def test_products_count_once_whatever_the_query_is(self, shop, within):
        """13 products are red or blue, four of them both."""
        assert sum(self.count("category__name", within()).values()) == 13
        assert sum(self.count("category", within()).values()) == 13
        assert self.count("tags__name", within()) == {"red": 10, "blue": 7}

    def test_of_products_with_several_pictures(self):
        articles = make_articles(6, pictures=3)
        hats = Category.objects.create(name="Hats")
        Article.objects.filter(pk__in=[article.pk for article in articles[:4]]).update(category=hats)
        label = "testshop.ArticleImageEmbedding.embedding"
        assert self.count("category__name", Article.objects.all(), label) == {"Hats": 4, None: 2}

    @pytest.mark.parametrize("path", ["categroy", "category__nmae", "price__name", "tags__x"])
    def test_a_wrong_path_raises(self, shop, path):
        with pytest.raises(FieldDoesNotExist):
            self.count(path, Product.objects.all())
