"""Whether visual search is worth it: the dashboard's figures by surface, space and rule, and their CSV."""

import csv
import datetime
import io
import uuid

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.utils import timezone

from django_visual_search import feedback, search
from django_visual_search.feedback.figures import usage
from django_visual_search.models import Feedback, RankingRule, SearchLog

from ..conftest import embed_all, picture_file
from ..heads import EXTRACTORS, make_head
from ..staff import staff
from ..testshop.models import Product

pytestmark = pytest.mark.django_db

PAGE = "/admin/django_visual_search/dashboard/"


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.clear()


def log(surface, milliseconds, results=5, days=0):
    return SearchLog.objects.create(
        created_at=timezone.now() - datetime.timedelta(days=days),
        label="testshop.Product.embedding",
        kind="photo",
        surface=surface,
        results=results,
        exact=True,
        milliseconds=milliseconds,
    )


def event(kind, search=None, key="key-1", rule=None, days=0, query_kind="photo"):
    Feedback.objects.create(
        kind=kind,
        created_at=timezone.now() - datetime.timedelta(days=days),
        content_type=ContentType.objects.get_for_model(Product),
        object_id="1",
        search=search and search.pk,
        extractor_key=key,
        rule=rule,
        query_kind=query_kind,
        digest=uuid.uuid4().hex,
    )


@pytest.fixture
def some_days():
    """A hundred searches of 1 to 100 ms for a page, three by the API, and what shoppers did."""
    page = [log("page", ms, results=0 if ms <= 25 else 5) for ms in range(1, 101)][-1]
    api, *_ = (log("api", 10, days=3) for _ in range(3))
    log("page", 9999, days=40)
    for _ in range(8):
        event("impression", page)
    event("click", page)
    event("click", page, rule=7)
    event("purchase", page)
    event("purchase", query_kind="", key="")
    for _ in range(2):
        event("impression", api, key="key-2", rule=7, days=3)
    event("click", None, key="key-2")
    event("click", page, days=40)


def of_last_days():
    today = timezone.localdate()
    return usage(today - datetime.timedelta(days=29), today)


def test_figures(some_days):
    found = of_last_days()
    page = found.searches["page"]
    assert (page.count, page.nothing, page.nothing_percent) == (100, 25, 25.0)
    assert (page.p50, page.p95) == (pytest.approx(50.5), pytest.approx(95.05))
    assert (found.searches["api"].count, found.total) == (3, 103)
    did = found.by_surface["page"]
    assert (did.shown, did.clicks, did.purchases, did.click_percent) == (8, 2, 1, 25.0)
    assert found.by_surface[""].clicks == 1, "a search that was not logged, or is forgotten"
    assert (found.attributed, found.purchases) == (1, 2)
    assert (found.by_space["key-1"].clicks, found.by_space["key-2"].clicks) == (2, 1)
    assert (found.by_rule[7].shown, found.by_rule[7].clicks, found.by_rule[None].shown) == (2, 1, 8)
    assert found.days[timezone.localdate(), "page"].count == 100


def test_the_page_says_it_in_words(client, some_days, settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    make_head("winter", key="key-2")
    RankingRule.objects.create(
        pk=7, kind="hide", content_type=ContentType.objects.get_for_model(Product), object_id="11"
    )
    client.force_login(staff())
    response = client.get(PAGE)
    page = response.content.decode().replace("&nbsp;", " ").replace("\xa0", " ")
    assert [row.name for row in response.context["surfaces"]] == ["search page", "API", "elsewhere"]
    assert [name for name, _did in response.context["spaces"]] == ["no head (key-1)", "winter"]
    assert [name for name, _did in response.context["rules"]] == ["without a rule", "Hide: 11"]
    for text in (
        "25.0 %",
        "51 ms",
        "95 ms",
        "103",
        '<h2 title="testshop.Product.embedding">Products</h2>',
    ):
        assert text in page, text
    assert "No searches yet" not in page


def test_csv(client, some_days):
    client.force_login(staff())
    response = client.get(PAGE, {"format": "csv"})
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in response["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    (today,) = [row for row in rows if (row["day"], row["surface"]) == (str(timezone.localdate()), "page")]
    assert (today["searches"], today["nothing_found"], today["clicks"], today["purchases"]) == ("100", "25", "2", "1")
    client.force_login(staff("testshop.view_product"))
    assert client.get(PAGE, {"format": "csv"}).status_code == 403


def test_nothing_yet(client, settings):
    client.force_login(staff())
    assert "No searches yet" in client.get(PAGE).content.decode()
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_SEARCHES": False}
    assert "LOG_SEARCHES is off" in client.get(PAGE).content.decode()


def test_surfaces_and_rules_are_written(client, django_capture_on_commit_callbacks):
    made = [Product.objects.create(name=f"p{n}", image=picture_file(n)) for n in range(3)]
    embed_all()
    rule = RankingRule.objects.create(
        kind="boost", factor=2, content_type=ContentType.objects.get_for_model(Product), object_id=made[1].pk
    )
    client.force_login(staff())
    client.get("/admin/testshop/product/visual-search/", {"product": made[0].pk})
    results = search.similar_to(made[0])
    feedback.log_search(results, 1.0, surface="similar")
    feedback.record("click", made[1], results=results)
    assert set(SearchLog.objects.values_list("surface", flat=True)) == {"admin", "similar"}
    assert of_last_days().by_rule[rule.pk].clicks == 1
    assert of_last_days().by_surface["similar"].clicks == 1
