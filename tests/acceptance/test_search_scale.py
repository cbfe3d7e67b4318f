"""Number of hits and recall at 50,000 rows, under filters of every width, near the query and far from it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_visual_search import search
from django_visual_search.fields.registry import get_field
from django_visual_search.search import planning
from django_visual_search.search.nearest import nearest
from django_visual_search.search.planning import forget_facts
from django_visual_search.search.query import Query
from django_visual_search.spaces.extractors import extractor_of

from ..testshop.models import Article, Product
from ..vectors import clustered, fill, nearest_by_numpy

ROWS = 50_000
PER_ARTICLE = 5
K = 20


def by_cluster(vectors, cluster):
    """Order rows as where one category is imported after the other; the graph is built in four fifths of the time."""
    order = np.argsort(cluster, kind="stable")
    return vectors[order], cluster[order]


@pytest.fixture(scope="module")
def big_shop(django_db_setup, django_db_blocker):
    """50,000 products in 200 clusters; ``price`` is independent of the vectors, ``name`` is the cluster's number."""
    field = get_field("testshop.Product")
    vectors, cluster = by_cluster(*clustered(ROWS, field.dimensions))
    price = np.random.default_rng(1).integers(0, 1000, ROWS)
    with django_db_blocker.unblock():
        columns = {
            "name": [str(c) for c in cluster],
            "image": [f"{i}.jpg" for i in range(ROWS)],
            "price": price.tolist(),
            "is_published": [True] * ROWS,
        }
        fill(field, vectors, columns=columns)
        forget_facts()
        yield field, vectors, cluster, price
        _truncate(Product)


@pytest.fixture(scope="module")
def big_articles(django_db_setup, django_db_blocker):
    """10,000 articles with five pictures each, near-duplicates of one another."""
    field = get_field("testshop.Article")
    base, _ = by_cluster(*clustered(ROWS // PER_ARTICLE, field.dimensions, seed=3))
    noise = np.random.default_rng(4).standard_normal((ROWS, field.dimensions)) * 0.03
    vectors = (np.repeat(base, PER_ARTICLE, axis=0) + noise).astype(np.float32)
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO testshop_article (id, title, is_public) "
                "SELECT i, 'x', i %% 2 = 0 FROM generate_series(0, %s) AS i",
                [ROWS // PER_ARTICLE - 1],
            )
            cursor.execute(
                "INSERT INTO testshop_articleimage (id, article_id, original, display_order) "
                "SELECT i, i / %s, i || '.jpg', 0 FROM generate_series(0, %s) AS i",
                [PER_ARTICLE, ROWS - 1],
            )
        fill(field, vectors, first=0)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        forget_facts()
        yield field, vectors
        _truncate(Article)


def _truncate(model):
    with connection.cursor() as cursor:
        cursor.execute(f'TRUNCATE "{model._meta.db_table}" CASCADE')
    forget_facts()


def queries(vectors, count=15, seed=2):
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(vectors), count)
    noise = 0.05 * rng.standard_normal((count, vectors.shape[1]))
    return [(int(i), vectors[i] + extra) for i, extra in zip(chosen, noise, strict=True)]


FILTERS = {
    "all": (lambda price: {}, 1.0),
    "50 %": (lambda price: {"price__lt": 500}, 0.5),
    "20 %": (lambda price: {"price__lt": 200}, 0.2),
    "10 %": (lambda price: {"price__lt": 100}, 0.1),
    "1 %": (lambda price: {"price__lt": 10}, 0.01),
    "0.1 %": (lambda price: {"price__lt": 1}, 0.001),
    "0": (lambda price: {"price__lt": 0}, 0.0),
}


@pytest.mark.django_db
class TestBigShop:
    @pytest.mark.parametrize("name", FILTERS)
    def test_full_pages_and_high_recall(self, big_shop, name):
        field, vectors, _, price = big_shop
        make, share = FILTERS[name]
        keep = price < make(price).get("price__lt", 10_000)
        assert keep.mean() == pytest.approx(share, abs=0.01)
        recalls, approximate = [], 0
        for _, vector in queries(vectors):
            hits, exact, _ = ask(field, vector, Product.objects.filter(**make(price)))
            wanted = [i + 1 for i in nearest_by_numpy(vectors, vector, keep, K)]
            assert len(hits) == min(K, int(keep.sum()))
            found = [hit.product_pk for hit in hits]
            if exact:
                assert found == wanted
            approximate += not exact
            recalls.append(len(set(found) & set(wanted)) / max(1, len(wanted)))
            assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
        if wanted:
            assert np.mean(recalls) >= 0.97
        # Wide filters must use the graph and narrow ones must not, or this test shows nothing about either.
        if share != 0.1:  # 5,000 rows: on the border
            assert (approximate > 0) == (share >= 0.2), name

    @pytest.mark.parametrize("clusters", [1, 40, 100], ids=["narrow", "20 %", "50 %"])
    def test_rows_far_from_the_query(self, big_shop, clusters):
        """The filter keeps only clusters that the query does not lie in, so its surroundings hold none of them."""
        field, vectors, cluster, _ = big_shop
        for i, vector in queries(vectors, count=6):
            others = [c for c in range(200) if c != cluster[i]][:clusters]
            keep = np.isin(cluster, others)
            hits, exact, _ = ask(field, vector, Product.objects.filter(name__in=[str(c) for c in others]))
            wanted = [j + 1 for j in nearest_by_numpy(vectors, vector, keep, K)]
            assert len(hits) == K
            found = [hit.product_pk for hit in hits]
            if exact:
                assert found == wanted
            assert len(set(found) & set(wanted)) / K >= 0.97

    @pytest.mark.parametrize("k", [1, 60, 200, 500])
    def test_every_depth(self, big_shop, k):
        """pgvector gives at most ef_search rows unless it scans on."""
        field, vectors, _, _ = big_shop
        _, vector = queries(vectors, count=1)[0]
        hits, exact, _ = ask(field, vector, Product.objects.all(), k)
        wanted = {i + 1 for i in nearest_by_numpy(vectors, vector, None, k)}
        assert len(hits) == k
        assert not exact
        assert len({hit.product_pk for hit in hits} & wanted) / k >= 0.97

    def test_deeper_than_one_scan_of_the_graph(self, big_shop, monkeypatch):
        field, vectors, _, _ = big_shop
        _, vector = queries(vectors, count=1)[0]
        wanted = [i + 1 for i in nearest_by_numpy(vectors, vector, None, 1000)]
        hits, exact, _ = ask(field, vector, Product.objects.all(), 1000)
        assert exact
        assert [hit.product_pk for hit in hits] == wanted
        monkeypatch.setattr(planning, "DEEP_EXACT_ROWS", 0)  # as in a larger table
        hits, exact, _ = ask(field, vector, Product.objects.all(), 1000)
        assert not exact
        assert len(hits) == 1000
        assert len({hit.product_pk for hit in hits} & set(wanted)) / 1000 >= 0.9

    @pytest.mark.parametrize("remembered", [True, False])
    def test_three_queries_though_the_graph_comes_back_short(self, big_shop, remembered):
        """``remembered``: whether the planner's facts are; else the exact scan waits in the graph's statement."""
        _, vectors, cluster, _ = big_shop
        product = Product.objects.get(pk=8)
        others = [c for c in range(200) if c != cluster[7]][:40]
        within = Product.objects.filter(name__in=[str(c) for c in others])
        search.similar_to(product, limit=K, within=within)
        if not remembered:
            forget_facts()
        with CaptureQueriesContext(connection) as queries:
            results = search.similar_to(product, limit=K, within=within)
        assert any("hnsw.ef_search" in query["sql"] for query in queries)
        assert len(queries) == 3
        wanted = nearest_by_numpy(vectors, vectors[7], np.isin(cluster, others), K)
        assert [hit.product.pk for hit in results] == [i + 1 for i in wanted]
        assert results.exact
        assert_as_stored(results)

    def test_products_have_all_their_columns(self, big_shop):
        product = Product.objects.get(pk=8)
        within = Product.objects.filter(price__lt=500)
        search.similar_to(product, limit=K, within=within)
        with CaptureQueriesContext(connection) as queries:
            results = search.similar_to(product, limit=K, within=within)
            assert not results.exact
            assert_as_stored(results, price=lambda price: price < 500)
        assert len(queries) == 3  # the graph, the products, and the one that they are compared with

    def test_without_the_index_it_is_exact(self, big_shop):
        field, vectors, _, _ = big_shop
        _, vector = queries(vectors, count=1)[0]
        ask_before = ask(field, vector, Product.objects.all())
        assert not ask_before[1]
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX product_embedding_hnsw")  # rolled back with the test
        remembered, _, _ = ask(field, vector, Product.objects.all())
        forget_facts()
        hits, exact, _ = ask(field, vector, Product.objects.all())
        forget_facts()
        assert exact
        wanted = [i + 1 for i in nearest_by_numpy(vectors, vector, None, K)]
        assert [hit.product_pk for hit in hits] == wanted
        assert [hit.product_pk for hit in remembered] == wanted

    def test_the_first_search_of_a_connection(self, big_shop):
        """pgvector is not loaded in it yet, so its settings do not exist."""
        field, vectors, _, _ = big_shop

        def first_search():
            try:
                hits, exact, _ = ask(field, vectors[0], Product.objects.all())
                return len(hits), exact
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as thread:  # a thread has a connection of its own
            ask(field, vectors[0], Product.objects.all())  # the plan's facts are known
            assert thread.submit(first_search).result() == (K, False)

    def test_the_planners_settings_are_restored(self, big_shop):
        field, vectors, _, _ = big_shop
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL hnsw.ef_search = 77")
            ask(field, vectors[0], Product.objects.all())
            for name, value in (("enable_sort", "on"), ("hnsw.ef_search", "77"), ("hnsw.iterative_scan", "off")):
                cursor.execute(f"SHOW {name}")
                assert cursor.fetchone() == (value,)


@pytest.mark.django_db
class TestBigArticles:
    @pytest.mark.parametrize("public", [None, True])
    def test_k_products_though_their_pictures_are_neighbours(self, big_articles, public):
        field, vectors = big_articles
        within = Article.objects.all() if public is None else Article.objects.filter(is_public=True)
        recalls = []
        for _, vector in queries(vectors):
            hits, exact, _ = ask(field, vector, within)
            ranked = [i // PER_ARTICLE for i in nearest_by_numpy(vectors, vector, None, 2000)]
            wanted = list(dict.fromkeys(article for article in ranked if public is None or article % 2 == 0))[:K]
            assert len({hit.product_pk for hit in hits}) == len(hits) == K
            assert not exact
            recalls.append(len({hit.product_pk for hit in hits} & set(wanted)) / K)
            assert all(hit.row.image.article_id == hit.product_pk for hit in hits)
        assert np.mean(recalls) >= 0.97

    def test_one_product_with_most_of_the_pictures_does_not_fill_the_answer(self, big_articles):
        field, vectors = big_articles
        with connection.cursor() as cursor:
            # Rolled back with the test
            cursor.execute("UPDATE testshop_articleimage SET article_id = 0 WHERE id < 40000")
        for _, vector in queries(vectors, count=4):
            hits, _, _ = ask(field, vector, Article.objects.all())
            assert len({hit.product_pk for hit in hits}) == K


def assert_as_stored(results, price=lambda price: True):
    """Each hit's product has all its columns but the vector."""
    columns = [f.attname for f in Product._meta.concrete_fields if f.name != "embedding"]
    found = Product.objects.filter(pk__in=[hit.product.pk for hit in results])
    stored = {row[0]: row for row in found.values_list(*columns)}
    assert len(results) == K
    for hit in results:
        assert hit.row is hit.product or hit.row == hit.product
        assert hit.product.get_deferred_fields() == {"embedding"}
        assert tuple(getattr(hit.product, name) for name in columns) == stored[hit.product.pk]
        assert price(hit.product.price)


def ask(field, vector, within, k=K):
    found = nearest(field, [Query(vector, extractor_of(field).spec.key)], limit=k, within=within)
    return found.candidates, found.exact, found.extractor_key
