"""Rules by an attribute: hidden in the search's own SQL, boosted among the candidates; and rules on trial."""

import numpy as np
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError

from django_visual_search import feedback, search
from django_visual_search.db.rows import rows_with_sql
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import ann
from django_visual_search.models import Feedback, RankingRule
from django_visual_search.ranking.reading import on_trial
from django_visual_search.search.planning import forget_facts
from django_visual_search.search.results import read_token

from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Category, Product, Tag
from ..vectors import clustered, fill, nearest_by_numpy
from .test_ranking_search import embedded, fan, numbers, rule, shop  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db


@pytest.fixture
def categories(shop):  # noqa: F811
    """Two categories: the even products are hats, the odd ones shoes."""
    hats, shoes = (Category.objects.create(name=name) for name in ("Hats", "Shoes"))
    for number, product in enumerate(shop):
        product.category = shoes if number % 2 else hats
    Product.objects.bulk_update(shop, ["category"])
    return hats, shoes


def by_attribute(kind, attribute, value, *, query="", save=True, **values):
    made = RankingRule(
        kind=kind,
        content_type=ContentType.objects.get_for_model(Product),
        attribute=attribute,
        value=str(value),
        query_id=str(getattr(query, "pk", query)),
        **values,
    )
    made.full_clean()
    if save:
        made.save()
    return made


def found(product, limit=5, **options):
    return numbers(search.similar_to(product, limit=limit, **options))


@pytest.mark.parametrize("path", ["category", "category__name"])
def test_a_hidden_category_never_leaves_a_search_short(shop, categories, path):  # noqa: F811
    by_attribute("hide", path, categories[1].pk if path == "category" else "Shoes")
    assert found(shop[0], 70) == list(range(2, 142, 2))
    assert found(shop[0], 3, ranking=False) == [1, 2, 3]
    assert found(shop[0], 3, within=Product.objects.filter(pk__gt=shop[50].pk)) == [52, 54, 56]


def test_repeated_rows_and_other_columns(shop):  # noqa: F811
    tags = [Tag.objects.create(name="sale"), Tag.objects.create(name="sale")]
    shop[1].tags.set(tags)
    Product.objects.filter(pk=shop[3].pk).update(price=7)
    by_attribute("hide", "tags__name", "sale")
    by_attribute("hide", "price", 7)
    assert found(shop[0], 3) == [2, 4, 5]


def test_rules_of_a_product_go_before_those_by_attribute(shop, categories):  # noqa: F811
    by_attribute("hide", "category", categories[1].pk)
    rule("pin", shop[9], slot=2)
    rule("boost", shop[1], factor=1)
    assert found(shop[0], 4) == [1, 9, 2, 4]


def test_rules_for_a_query_go_before_those_for_every_search(shop, categories):  # noqa: F811
    by_attribute("hide", "category", categories[1].pk)
    by_attribute("boost", "category", categories[1].pk, query=shop[0], factor=1)
    by_attribute("hide", "category", categories[0].pk, query=shop[2])
    assert found(shop[0], 4) == [1, 2, 3, 4]
    assert set(found(shop[5], 3)) == {4, 6, 8}
    assert found(shop[2], 3) == []


def test_boosts_reach_the_hits_the_token_and_the_feedback(shop, categories):  # noqa: F811
    made = by_attribute("boost", "category", categories[1].pk, factor=2)
    results = search.similar_to(shop[0], limit=6)
    assert numbers(results) == sorted(numbers(results), key=lambda n: (n % 2 == 0, n))
    assert [hit.reasons for hit in results] == [("visual", "boosted")] * 6
    places = read_token(results.token).places
    assert {place.rule for place in places[:6]} == {made.pk}
    feedback.record("click", results[0].product, results=results)
    assert set(Feedback.objects.values_list("rule", flat=True)) == {made.pk}
    by_attribute("boost", "category", categories[1].pk, query=shop[0], factor=1)
    assert found(shop[0], 4) == [1, 2, 3, 4]


def test_a_rule_on_trial_counts_here_only(shop, categories):  # noqa: F811
    trial = by_attribute("hide", "category", categories[1].pk, save=False)
    with on_trial(trial):
        assert found(shop[0], 3) == [2, 4, 6]
    assert found(shop[0], 3) == [1, 2, 3]
    trial.save()
    assert found(shop[0], 3) == [2, 4, 6]
    with on_trial(trial, counts=False):
        assert found(shop[0], 3) == [1, 2, 3]
    trial.value = str(categories[0].pk)
    with on_trial(trial):
        assert found(shop[0], 3) == [1, 3, 5]


def test_companions_are_hidden_by_their_product():
    rows = embedded("testshop.ArticleImageEmbedding", fan(6))
    hats = Category.objects.create(name="Hats")
    for number, row in enumerate(rows):
        article = Article.objects.create(title=f"p{number}", category=hats if number == 1 else None)
        for _ in range(2):
            image = ArticleImage.objects.create(article=article, original="a.jpg")
            ArticleImageEmbedding.objects.create(image=image, **row)
    kind = ContentType.objects.get_for_model(Article)
    RankingRule.objects.create(kind="hide", content_type=kind, attribute="category__name", value="Hats")
    RankingRule.objects.create(kind="boost", content_type=kind, attribute="title", value="p3", factor=2)
    results = search.similar_to(Article.objects.get(title="p0"), limit=3)
    assert [hit.product.title for hit in results] == ["p3", "p2", "p4"]


def test_a_rule_whose_attribute_is_gone_has_no_effect_and_says_so(shop, caplog):  # noqa: F811
    kind = ContentType.objects.get_for_model(Product)
    rows_with_sql.cache_clear()
    for attribute, value in (("colour", "red"), ("category", "x"), ("category__nothing", "1")):
        RankingRule.objects.create(kind="hide", content_type=kind, attribute=attribute, value=value)
        RankingRule.objects.create(kind="boost", content_type=kind, attribute=attribute, value=value)
    assert found(shop[0], 3) == [1, 2, 3]
    assert caplog.text.count("has no effect") == 3


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"attribute": "colour", "value": "red"}, "attribute"),
        ({"attribute": "category", "value": "999"}, "value"),
        ({"attribute": "category", "value": "x"}, "value"),
        ({"attribute": "category", "value": ""}, "value"),
        ({"attribute": "price", "value": "dear"}, "value"),
        ({"attribute": "price", "value": "1", "kind": "pin", "slot": 1}, "attribute"),
        ({"attribute": "price", "value": "1", "object_id": "1"}, "attribute"),
        ({}, "object_id"),
    ],
)
def test_what_is_refused(values, wrong):
    Product.objects.create(pk=1, name="p")
    made = RankingRule(**{"kind": "hide", "content_type": ContentType.objects.get_for_model(Product), **values})
    with pytest.raises(ValidationError) as refused:
        made.full_clean()
    assert set(refused.value.message_dict) == {wrong}


@pytest.mark.django_db(transaction=True)
def test_a_hidden_group_leaves_the_graph_in_use(settings):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXACT_ROWS": 100}
    field, count = get_field("testshop.Product"), 2000
    vectors, _ = clustered(count, 48)
    names = {"name": [f"p{i}" for i in range(count)], "price": [i % 10 for i in range(count)]}
    fill(field, vectors, columns={**names, "is_published": [True] * count, "image": [f"{i}.jpg" for i in range(count)]})
    forget_facts()
    by_attribute("hide", "price", 3)
    by_attribute("boost", "price", 4, factor=1)
    results = search.similar_to(Product.objects.get(name="p0"), limit=20)
    assert not results.exact, "found by the graph"
    kept = np.arange(count) % 10 != 3
    kept[0] = False
    wanted = nearest_by_numpy(vectors, vectors[0], kept, 20)
    assert len(set(numbers(results)) & set(wanted)) >= 19
    ann.drop_indexes(field)
