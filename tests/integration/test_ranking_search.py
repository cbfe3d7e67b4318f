"""Ranking in a search: evidence and rules are rows, read in the search's own statements."""

import uuid
from datetime import timedelta

import numpy as np
import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_visual_search import search
from django_visual_search.fields.registry import get_field
from django_visual_search.models import Evidence, RankingRule
from django_visual_search.search.planning import forget_facts
from django_visual_search.search.results import read_token
from django_visual_search.spaces.extractors import extractor_of

from ..conftest import embed_all, picture, picture_file
from ..testshop.models import (
    DIMENSIONS,
    Article,
    ArticleImage,
    ArticleImageEmbedding,
    Poster,
    Product,
    Spare,
    Story,
    StoryImage,
    StoryImageEmbedding,
)

pytestmark = pytest.mark.django_db
DEPTH = 100


@pytest.fixture(autouse=True)
def _nothing_remembered():
    forget_facts()
    yield
    forget_facts()


def fan(count):
    """Unit vectors ``(count, DIMENSIONS)``: the nearest to the first is at 0.1, each later one farther, up to 1."""
    angles = np.arccos(1 - np.linspace(0.1, 1, count))
    angles[0] = 0
    vectors = np.zeros((count, DIMENSIONS))
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return vectors.tolist()


def embedded(field_label, vectors):
    """(vector, key) for rows of that field."""
    key = extractor_of(get_field(field_label)).spec.key
    return [{"embedding": vector, "embedding_key": f"{key}:{i}.jpg"} for i, vector in enumerate(vectors)]


@pytest.fixture
def shop():
    """150 products: the n-th is the n-th nearest to the first."""
    rows = embedded("testshop.Product", fan(150))
    return Product.objects.bulk_create(Product(name=f"p{i}", image=f"{i}.jpg", **row) for i, row in enumerate(rows))


def evidence(product, gain, exposure, *, query="", days=0):
    return Evidence.objects.create(
        model=product._meta.label_lower,
        query_id=str(getattr(query, "pk", query)),
        object_id=str(product.pk),
        gain=gain,
        exposure=exposure,
        as_of=timezone.now() - timedelta(days=days),
    )


def rule(kind, product, *, query="", **values):
    made = RankingRule(
        kind=kind,
        content_type=ContentType.objects.get_for_model(product),
        object_id=str(product.pk),
        query_id=str(getattr(query, "pk", query)),
        **values,
    )
    made.full_clean()
    made.save()
    return made


def numbers(results):
    """The numbers of the shop's products that were found."""
    return [int(hit.product.name[1:]) for hit in results]


def probe(*needs):
    """A ranker that changes nothing, and what it saw."""
    seen = []

    def ranker(candidates, context):
        seen[:] = [candidates, context]
        return candidates

    ranker.needs = frozenset(needs)
    return ranker, seen


class TestFeedback:
    def test_liked_hits_rise_and_have_the_reason(self, shop):
        evidence(shop[5], 40, 100)
        evidence(shop[1], 0, 100)
        results = search.similar_to(shop[0], limit=6)
        assert numbers(results)[:2] == [2, 3] or numbers(results)[0] == 5
        assert numbers(results).index(5) < 4
        assert results[numbers(results).index(5)].reasons == ("visual", "feedback")
        assert 1 not in numbers(results)[:1]
        similarities = {number: hit.similarity for number, hit in zip(numbers(results), results, strict=True)}
        plain = search.similar_to(shop[0], limit=6, ranking=False)
        assert numbers(plain) == [1, 2, 3, 4, 5, 6]
        assert all(hit.reasons == ("visual",) for hit in plain)
        assert similarities[5] == pytest.approx(plain[4].similarity)

    def test_hits_rise_from_below_the_page(self, shop):
        evidence(shop[14], 400, 500)
        for product in shop[1:5]:
            evidence(product, 0, 500)
        assert 14 in numbers(search.similar_to(shop[0], limit=12))

    def test_hits_that_look_different_do_not_rise(self, shop):
        evidence(shop[99], 1e6, 1e6)  # at 0.7
        for product in shop[1:20]:  # up to 0.21
            evidence(product, 0, 1e6)
        assert 99 not in numbers(search.similar_to(shop[0], limit=12))

    def test_evidence_for_another_product_counts_by_the_hit_alone(self, shop):
        evidence(shop[9], 40, 100, query=shop[3])
        assert numbers(search.similar_to(shop[0], limit=10)) == list(range(1, 11))
        evidence(shop[9], 40, 100)
        forget_facts()
        assert numbers(search.similar_to(shop[0], limit=10)).index(9) < 8

    def test_a_photo_is_ranked_by_the_hits_alone(self, shop):
        for i in range(30):
            Product.objects.create(name=f"p{1000 + i}", image=picture_file(i))
        embed_all()
        plain = search.search_by_image(picture(7), "testshop.Product", limit=30, ranking=False)
        third, fourth = plain[2].product, plain[3].product
        evidence(fourth, 90, 100)
        evidence(third, 0, 100)
        evidence(third, 100, 100, query="7")
        evidence(third, 100, 100, query=shop[0])
        ranked = search.search_by_image(picture(7), "testshop.Product", limit=30)
        order = [hit.product for hit in ranked]
        assert order.index(fourth) < order.index(third)
        assert order[0] == plain[0].product

    @pytest.mark.parametrize(("days", "share"), [(0, 1), (30, 0.5), (90, 0.125)])
    def test_fades_by_half_every_thirty_days(self, shop, days, share):
        evidence(shop[4], 8, 40, days=days)
        evidence(shop[4], 4, 20, query=shop[0], days=days)
        ranker, seen = probe("evidence")
        search.similar_to(shop[0], ranking=[ranker])
        known = {c.product_pk: (c.pair, c.alone) for c in seen[0]}
        pair, alone = known.pop(shop[4].pk)
        assert pair == pytest.approx((4 * share, 20 * share), rel=1e-3)
        assert alone == pytest.approx((8 * share, 40 * share), rel=1e-3)
        assert set(known.values()) == {((0.0, 0.0), (0.0, 0.0))}

    def test_old_evidence_moves_nothing(self, shop):
        evidence(shop[5], 40, 100, days=600)
        assert numbers(search.similar_to(shop[0], limit=6)) == [1, 2, 3, 4, 5, 6]

    def test_pages_continue_the_ranking(self, shop):
        for i in range(1, 60):
            evidence(shop[i], (i * 7) % 23, 40)
        whole = numbers(search.similar_to(shop[0], limit=DEPTH))
        assert whole != sorted(whole)
        results = search.similar_to(shop[0], limit=10, depth=DEPTH)
        pages = numbers(results)
        while results.ranking.more:
            Evidence.objects.all().delete()  # whatever happens meanwhile
            results = search.next_page(read_token(results.token), limit=10)
            pages += numbers(results)
        assert pages == whole

    def test_uuid_and_char_keys(self):
        for label, model, extra in (
            ("testshop.Poster", Poster, lambda i: {"pk": uuid.UUID(int=i + 1)}),
            ("testshop.Spare", Spare, lambda i: {"sku": f"a/{i} ü"}),
        ):
            rows = embedded(label, fan(30))
            made = model.objects.bulk_create(model(image=f"{i}.jpg", **extra(i), **row) for i, row in enumerate(rows))
            evidence(made[9], 90, 100, query=made[0])
            evidence(made[9], 90, 100)
            evidence(made[8], 0, 100)
            order = [hit.product for hit in search.similar_to(made[0], limit=10)]
            assert order.index(made[9]) < order.index(made[7])
            rule("pin", made[29], slot=2, query=made[0])
            rule("hide", made[1])
            order = [hit.product for hit in search.similar_to(made[0], limit=10)]
            assert order[1] == made[29]
            assert made[1] not in order
            assert len(order) == 10


@pytest.fixture
def articles():
    """Forty articles of a third party with two pictures each, the second far off."""
    made = [Article.objects.create(title=f"a{i}") for i in range(40)]
    vectors = fan(40)
    for i, article in enumerate(made):
        for j in range(2):
            image = ArticleImage.objects.create(article=article, original=f"{i}-{j}.jpg", display_order=j)
            far = np.zeros(DIMENSIONS)
            far[5 + i % 7] = 1
            row = embedded("testshop.Article", [far.tolist() if j else vectors[i]])[0]
            ArticleImageEmbedding.objects.create(image=image, **row)
    return made


class TestCompanions:
    def test_evidence_and_rules_name_the_product(self, articles):
        evidence(articles[7], 90, 100)
        evidence(articles[1], 0, 100)
        rule("pin", articles[35], slot=3)
        rule("hide", articles[2])
        results = search.similar_to(articles[0], limit=8)
        order = [articles.index(hit.product) for hit in results]
        assert order[2] == 35
        assert 2 not in order
        assert 7 in order[:5]
        assert len(set(order)) == 8
        hit = results[2]
        assert (hit.reasons, hit.row.image.article_id) == (("visual", "pinned"), articles[35].pk)

    def test_a_product_referred_to_by_another_column(self):
        made = [Story.objects.create(code=f"s{i}") for i in range(20)]
        for i, (story, row) in enumerate(zip(made, embedded("testshop.Story", fan(20)), strict=True)):
            image = StoryImage.objects.create(story=story, original=f"{i}.jpg")
            StoryImageEmbedding.objects.create(image=image, **row)
        evidence(made[6], 90, 100)
        evidence(made[1], 0, 100)
        rule("pin", made[15], slot=1)
        order = [made.index(hit.product) for hit in search.similar_to(made[0], limit=8)]
        assert order[0] == 15
        assert order.index(6) < 6


class TestRules:
    def test_a_pinned_product_need_not_be_near_and_keeps_its_slot(self, shop):
        rule("pin", shop[140], slot=3)
        rule("pin", shop[4], slot=1)
        results = search.similar_to(shop[0], limit=5)
        assert numbers(results) == [4, 1, 140, 2, 3]
        assert [hit.reasons[1:] for hit in results] == [("pinned",), (), ("pinned",), (), ()]
        assert [hit.rank for hit in results] == [1, 2, 3, 4, 5]

    def test_pins_keep_their_slots_on_later_pages(self, shop):
        rule("pin", shop[140], slot=3)
        rule("pin", shop[141], slot=8)
        rule("hide", shop[2])
        results = search.similar_to(shop[0], limit=5, depth=DEPTH)
        second = search.next_page(read_token(results.token), limit=5)
        assert numbers(results) + numbers(second) == [1, 3, 140, 4, 5, 6, 7, 141, 8, 9]
        assert (second[2].rank, second[2].reasons) == (8, ("visual", "pinned"))

    def test_a_pin_beneath_the_limit_is_not_shown(self, shop):
        rule("pin", shop[140], slot=30)
        assert numbers(search.similar_to(shop[0], limit=12)) == list(range(1, 13))
        assert numbers(search.similar_to(shop[0], limit=30))[-1] == 140

    def test_pins_stay_under_the_filter(self, shop):
        rule("pin", shop[140], slot=1)
        within = Product.objects.exclude(pk=shop[140].pk)
        assert numbers(search.similar_to(shop[0], limit=3)) == [140, 1, 2]
        assert numbers(search.similar_to(shop[0], limit=3, within=within)) == [1, 2, 3]
        assert numbers(search.similar_to(shop[0], limit=3, min_similarity=0.5)) == [1, 2, 3]
        Product.objects.filter(pk=shop[140].pk).update(embedding=None)
        assert numbers(search.similar_to(shop[0], limit=3)) == [1, 2, 3]

    def test_the_product_asked_about_is_not_its_own_hit(self, shop):
        rule("pin", shop[0], slot=1)
        assert numbers(search.similar_to(shop[0], limit=3)) == [1, 2, 3]
        assert numbers(search.similar_to(shop[1], limit=1)) == [0]

    def test_hidden_ones_are_replaced(self, shop):
        for i in (1, 2, 5):
            rule("hide", shop[i])
        assert numbers(search.similar_to(shop[0], limit=5)) == [3, 4, 6, 7, 8]
        # As deep as rankers look, too: as many come back as there are.
        for limit in (DEPTH, DEPTH + 40):
            assert len(search.similar_to(shop[0], limit=limit)) == limit
        assert len(search.similar_to(shop[0], limit=1000)) == 146

    def test_rules_for_one_query(self, shop):
        rule("pin", shop[9], slot=1, query=shop[0])
        rule("hide", shop[3], query=shop[0])
        assert numbers(search.similar_to(shop[0], limit=4)) == [9, 1, 2, 4]
        assert 3 in numbers(search.similar_to(shop[2], limit=4))

    def test_a_pin_that_a_rule_for_the_query_overrules_shows_nothing(self, shop):
        rule("pin", shop[140], slot=1)
        rule("boost", shop[140], query=shop[0])
        whole = numbers(search.similar_to(shop[0], limit=DEPTH))
        assert whole == list(range(1, DEPTH + 1))
        assert numbers(search.similar_to(shop[1], limit=1)) == [140]

    def test_times(self, shop):
        hour = timedelta(hours=1)
        now = timezone.now()
        rule("hide", shop[1], starts_at=now + hour)
        rule("hide", shop[2], ends_at=now - hour)
        rule("hide", shop[3], starts_at=now - hour, ends_at=now + hour)
        assert numbers(search.similar_to(shop[0], limit=4)) == [1, 2, 4, 5]

    def test_rules_without_a_products_key_are_ignored(self, shop):
        kind = ContentType.objects.get_for_model(Product)
        for key in ("x", "", str(10**30), "1.5"):
            RankingRule.objects.create(kind="pin", slot=1, content_type=kind, object_id=key)
        assert numbers(search.similar_to(shop[0], limit=3)) == [1, 2, 3]


class TestDiversity:
    def test_by_name_and_on_top_of_the_others(self, shop):
        duplicates = [Product(name=f"p{1000 + i}", image="x.jpg") for i in range(6)]
        for duplicate, row in zip(duplicates, embedded("testshop.Product", [fan(150)[10]] * 6), strict=True):
            duplicate.embedding, duplicate.embedding_key = row["embedding"], row["embedding_key"]
        other = np.zeros(DIMENSIONS)
        other[0], other[7] = 0.84, np.sqrt(1 - 0.84**2)  # as near as the tenth, on another side
        row = embedded("testshop.Product", [other.tolist()])[0]
        Product.objects.bulk_create([*duplicates, Product(name="p2000", image="y.jpg", **row)])
        plain = numbers(search.similar_to(shop[0], limit=12, ranking=False))
        assert 2000 not in plain[:8]
        spread = search.similar_to(shop[0], limit=12, ranking=["feedback", "merchandise", "diversity"])
        order = numbers(spread)
        assert order[0] == 1
        assert order[1] == 2000
        assert spread[1].reasons == ("visual", "diverse")
        assert len(order) == len(set(order)) == 12
        rule("pin", shop[140], slot=2)
        pinned = numbers(search.similar_to(shop[0], limit=12, ranking=["diversity", "merchandise"]))
        assert pinned[1] == 140
        assert [n for n in pinned if n != 140] == order[:11]


def nodes(plan):
    """The node of a query plan and all below it."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


class TestCost:
    def test_one_look_a_hit_at_evidence_that_was_never_analyzed(self, shop):
        """A young shop: planned as a join of nearly empty tables, all evidence was read for each hit."""
        for product in shop:
            evidence(product, 1, 10)
            evidence(product, 1, 10, query=shop[0])
        search.similar_to(shop[0], limit=12)
        with CaptureQueriesContext(connection) as asked:
            search.similar_to(shop[0], limit=12)
        [read] = [entry["sql"] for entry in asked if " AS pair " in entry["sql"]]
        statement = read[read.index("SELECT hits.space") :]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            [[[plan]]] = cursor.fetchall()
        scans = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == Evidence._meta.db_table]
        assert len(scans) == 2
        for node in scans:
            assert node["Actual Loops"] == DEPTH
            assert node["Actual Rows"] <= 1

    @pytest.mark.django_db(transaction=True)  # in a transaction that has written, nothing is remembered
    def test_a_shop_without_evidence_and_rules_pays_nothing(self, shop):
        search.similar_to(shop[0])  # what is remembered for a while
        with CaptureQueriesContext(connection) as queries:
            search.similar_to(shop[0], limit=7)
        neighbours, _products = queries.captured_queries
        assert "LIMIT 7" in neighbours["sql"]
        assert "evidence" not in neighbours["sql"]
        assert "rankingrule" not in neighbours["sql"]

    @pytest.mark.django_db(transaction=True)  # in a transaction that has written, nothing is remembered
    def test_at_most_three_queries_with_everything(self, shop, articles, django_assert_max_num_queries):
        for product in shop[1:50]:
            evidence(product, 1, 2)
        rule("pin", shop[140], slot=1)
        evidence(articles[3], 1, 2)
        rule("pin", articles[30], slot=1)
        everything = ["feedback", "merchandise", "diversity"]
        for asked, within in ((shop[3], Product.objects.filter(price=0)), (articles[3], Article.objects.all())):
            forget_facts()
            with django_assert_max_num_queries(3):
                for hit in search.similar_to(asked.__class__(pk=asked.pk), within=within, ranking=everything):
                    assert hit.row
        forget_facts()
        with django_assert_max_num_queries(3):
            results = search.search_by_image(picture(3), "testshop.Product", limit=10)
            assert results[0].product == shop[140]
