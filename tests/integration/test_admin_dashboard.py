"""The dashboard: its figures and its plot are correct, and its permissions hold."""

import datetime
import re
import time
import uuid
import xml.etree.ElementTree as ET

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from django_visual_search.admin.base import SLOW_SECONDS
from django_visual_search.admin.dashboard import DAYS, HEIGHT, feedback_plot
from django_visual_search.fields.registry import embedding_fields, get_field
from django_visual_search.indexing import ann
from django_visual_search.indexing.status import State
from django_visual_search.models import Feedback, IndexingRun
from django_visual_search.search.planning import forget_facts

from ..conftest import embed_all, picture_file
from ..staff import staff
from ..testshop.models import Article, ArticleImage, Product
from ..vectors import clustered, fill
from .test_admin_status import PICTURES, PRODUCTS, attempt

pytestmark = pytest.mark.django_db

PAGE = "/admin/django_visual_search/dashboard/"


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.clear()
    forget_facts()


def figures_of(response, label=PRODUCTS):
    (found,) = [figures for figures, _ in response.context["fields"] if figures.field.label == label]
    return found


@pytest.fixture
def products():
    made = [Product.objects.create(name=f"Product {n}", image=picture_file(n)) for n in range(8)]
    embed_all()
    _, stale, missing, refused, quarantined, cleared = made[:6]
    Product.objects.filter(pk=stale.pk).update(embedding_key="other:x")
    gone = [missing.pk, refused.pk, quarantined.pk]
    Product.objects.filter(pk__in=gone).update(embedding=None, embedding_key=None)
    attempt(PRODUCTS, refused, refused.image, "refused")
    attempt(PRODUCTS, quarantined, quarantined.image, "quarantined")
    Product.objects.filter(pk=cleared.pk).update(image="", embedding=None, embedding_key=None)
    return made


class TestFigures:
    def test_counts(self, client, products):
        client.force_login(staff())
        figures = figures_of(client.get(PAGE))
        assert figures.counts == {
            State.CURRENT: 3,
            State.STALE: 1,
            State.MISSING: 1,
            State.REFUSED: 1,
            State.QUARANTINED: 1,
        }
        assert (figures.total, figures.current, figures.without_picture, figures.percent) == (7, 3, 1, 42.8)

    def test_every_field(self, client):
        client.force_login(staff())
        shown = [figures.field.label for figures, _ in client.get(PAGE).context["fields"]]
        assert shown == [field.label for field in embedding_fields()]

    def test_companions(self, client):
        article = Article.objects.create(title="A")
        for seed in range(3):
            ArticleImage.objects.create(article=article, original=picture_file(seed))
        embed_all(PICTURES)
        ArticleImage.objects.create(article=article, original=picture_file(9))
        client.force_login(staff())
        figures = figures_of(client.get(PAGE), PICTURES)
        assert (figures.total, figures.current) == (4, 3)

    def test_links_lead_to_the_counted_pictures(self, client, products):
        client.force_login(staff())
        page = client.get(PAGE).content.decode()
        for state, where in (("stale", "testshop/product"), ("missing", "testshop/product")):
            link = f"/admin/{where}/?visual_search={state}"
            assert link in page
            counted = 1 + (state == "missing")  # with the product without a picture
            assert client.get(link).context["cl"].result_count == counted
        for state in ("refused", "quarantined"):
            link = f"/admin/django_visual_search/indexingattempt/?label={PRODUCTS}&amp;state={state}"
            assert link in page
            assert client.get(link.replace("&amp;", "&")).context["cl"].result_count == 1

    @pytest.mark.django_db(transaction=True)  # elsewhere, nothing is remembered
    def test_one_query_counts(self, client, products):
        client.force_login(staff())
        client.get(PAGE)
        with CaptureQueriesContext(connection) as captured:
            client.get(PAGE)
        statements = [query["sql"] for query in captured]
        assert len([sql for sql in statements if "GROUP BY" in sql and "testshop_product" in sql]) == 1
        # Session and user; for each field its counts, indexes, runs and the planner's facts; the plot; four for usage,
        # and one each for waiting heads and for switches
        assert len(statements) <= 9 + 4 * len(embedding_fields())

    def test_a_slow_count_is_cached_for_a_while(self, client, products):
        def slow(execute, sql, params, many, context):
            if "GROUP BY" in sql and "testshop_product" in sql:
                time.sleep(SLOW_SECONDS + 0.1)
            return execute(sql, params, many, context)

        client.force_login(staff())
        with connection.execute_wrapper(slow):
            assert figures_of(client.get(PAGE)).current == 3
        Product.objects.all().delete()
        assert figures_of(client.get(PAGE)).current == 3

    def test_an_extractor_that_can_not_run(self, client, settings):
        settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": {"BACKEND": "no.such.Extractor"}}}
        client.force_login(staff())
        response = client.get(PAGE)
        assert response.status_code == 200
        assert "run on this machine:" in response.content.decode()
        assert "dotted path of an Extractor" in figures_of(response).problem


class TestIndex:
    def test_few_rows_are_compared(self, client, products):
        ann.analyze(get_field(PRODUCTS))
        client.force_login(staff())
        response = client.get(PAGE)
        facts = figures_of(response).ann
        assert (facts.exact, facts.used, facts.missing) == (True, "", [])
        assert facts.indexes[0].name == "product_embedding_hnsw"
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_relation_size('product_embedding_hnsw')")
            assert facts.indexes[0].size == cursor.fetchone()[0] > 0
        assert "compare all rows, which are few: exact" in response.content.decode()

    @pytest.mark.django_db(transaction=True)
    def test_many_rows_use_the_index(self, client, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXACT_ROWS": 100}
        field = get_field(PRODUCTS)
        vectors, _ = clustered(2000, 48)
        names = {"name": [""] * 2000, "price": [0] * 2000, "is_published": [True] * 2000}
        fill(field, vectors, columns={**names, "image": [f"{i}.jpg" for i in range(2000)]})
        client.force_login(staff())
        response = client.get(PAGE)
        facts = figures_of(response).ann
        assert (facts.exact, facts.used) == (False, "product_embedding_hnsw")
        assert figures_of(response).current == 2000
        assert "use the index" in response.content.decode()
        ann.drop_indexes(field)
        forget_facts()
        response = client.get(PAGE)
        facts = figures_of(response).ann
        assert (facts.exact, facts.used, facts.missing) == (True, "", ["product_embedding_hnsw"])
        assert "compare all rows, without a valid index" in response.content.decode()
        assert "product_embedding_hnsw is not in the database" in response.content.decode()
        ann.build_indexes(field)


class TestRuns:
    def run(self, kind="command", ago=10, **values):
        now = timezone.now()
        IndexingRun.objects.create(
            label=PRODUCTS, kind=kind, started_at=now - datetime.timedelta(seconds=ago), **{"updated_at": now, **values}
        )

    def test_running(self, client):
        self.run(total=200, done=90, failed=10)
        client.force_login(staff())
        response = client.get(PAGE)
        progress = figures_of(response).command
        assert (progress.run.is_running, progress.percent, progress.processed) == (True, 50, 100)
        assert progress.rate == pytest.approx(10, rel=0.05)
        assert progress.left.total_seconds() == pytest.approx(10, abs=1)
        page = response.content.decode()
        assert "100 of 200 pictures" in page
        assert '<meta http-equiv="refresh" content="5">' in page

    def test_finished(self, client):
        self.run(total=200, done=190, failed=10, finished_at=timezone.now())
        client.force_login(staff())
        page = client.get(PAGE).content.decode()
        assert "190 pictures embedded" in page
        assert "10 failed" in page
        assert "http-equiv" not in page

    def test_interrupted(self, client):
        self.run(ago=4000, total=200, done=90, updated_at=timezone.now() - datetime.timedelta(hours=1))
        client.force_login(staff())
        response = client.get(PAGE)
        assert not figures_of(response).command.run.is_running
        assert re.search(r"No progress for 1\shour, after 90 pictures", response.content.decode())
        assert "http-equiv" not in response.content.decode()

    def test_sweeps(self, client):
        client.force_login(staff())
        assert "None yet. Is Celery beat running?" in client.get(PAGE).content.decode()
        Product.objects.create(name="A", image=picture_file(1))
        embed_all()
        figures = figures_of(client.get(PAGE))
        assert (figures.sweep.run.done, figures.sweep.run.is_running, figures.current) == (1, False, 1)


class TestPlot:
    def events(self, kind, days_ago, count, hour=12):
        moment = timezone.localtime().replace(hour=hour) - datetime.timedelta(days=days_ago)
        Feedback.objects.bulk_create(
            Feedback(
                kind=kind,
                created_at=moment,
                content_type=ContentType.objects.get_for_model(Product),
                object_id="1",
                digest=uuid.uuid4().hex,
            )
            for _ in range(count)
        )

    def test_counts_by_day_and_kind(self):
        self.events("impression", 0, 40, hour=0)
        self.events("impression", 29, 10)
        self.events("click", 3, 5)
        self.events("click", 30, 7)  # too old
        self.events("return", 1, 1)
        plot = feedback_plot()
        rows = {row.kind: row for row in plot.rows}
        assert list(rows) == list(Feedback.Kind.values)
        assert [bar.count for bar in rows["impression"].bars] == [10] + [0] * 28 + [40]
        assert [bar.count for bar in rows["click"].bars] == [0] * 26 + [5, 0, 0, 0]
        assert (rows["impression"].total, rows["click"].total, rows["return"].total, plot.total) == (50, 5, 1, 56)
        assert (rows["click"].share, rows["return"].share, rows["impression"].share) == (10.0, 2.0, None)
        assert rows["impression"].bars[-1].height == HEIGHT
        assert rows["impression"].bars[0].height == HEIGHT / 4
        assert (plot.last - plot.first).days == DAYS - 1

    def test_days_are_those_of_the_time_zone(self):
        noon = datetime.datetime(2026, 3, 10, 23, 30, tzinfo=datetime.UTC)
        Feedback.objects.create(
            kind="click",
            created_at=noon,
            content_type=ContentType.objects.get_for_model(Product),
            object_id="1",
            digest="x",
        )
        with timezone.override("Asia/Tokyo"):
            (row,) = [row for row in feedback_plot(datetime.date(2026, 3, 11)).rows if row.kind == "click"]
        assert row.bars[-1].count == 1

    @pytest.mark.parametrize("language", ["en", "de"])
    def test_svg(self, client, language):
        self.events("impression", 2, 3)
        self.events("impression", 1, 7)
        client.force_login(staff())
        with translation.override(language):
            page = client.get(PAGE, headers={"accept-language": language}).content.decode()
        charts = re.findall(r"<svg class=\"visual-search-chart.*?</svg>", page, re.DOTALL)
        assert len(charts) == len(Feedback.Kind.values)
        parsed = ET.fromstring(charts[0])
        bars = [rect for rect in parsed.iter("rect") if rect.get("class") is None]
        assert [float(bar.get("height")) for bar in bars] == [pytest.approx(HEIGHT * 3 / 7, abs=0.06), HEIGHT]
        for bar in bars:
            assert float(bar.get("y")) + float(bar.get("height")) == pytest.approx(HEIGHT, abs=0.06)
        assert [title.text.split(": ")[1] for title in parsed.iter("title")][-3:] == ["3", "7", "0"]
        assert "style=" not in page[page.index('id="content-main"') :], "nothing that a strict CSP forbids"

    def test_nothing_yet(self, client):
        client.force_login(staff())
        page = client.get(PAGE).content.decode()
        assert "None yet. Shoppers" in page
        assert "visual-search-chart" not in page


class TestPermission:
    def test_view_dashboard(self, client):
        client.force_login(staff("django_visual_search.view_dashboard"))
        page = client.get(PAGE)
        assert page.status_code == 200
        # No links to pages that this user may not see
        assert "/admin/testshop/" not in page.content.decode()
        assert "indexingattempt" not in page.content.decode()
        assert PAGE in client.get("/admin/").content.decode()

    def test_others(self, client):
        client.force_login(staff("testshop.view_product"))
        assert client.get(PAGE).status_code == 403
        assert PAGE not in client.get("/admin/").content.decode()
        client.logout()
        assert client.get(PAGE).status_code == 302

    def test_there_are_no_other_pages(self, client):
        client.force_login(staff())
        run = IndexingRun.objects.create(
            label=PRODUCTS, kind="sweep", started_at=timezone.now(), updated_at=timezone.now()
        )
        for address in ("add/", f"{run.pk}/change/", f"{run.pk}/delete/"):
            assert client.get(PAGE + address).status_code == 404
        assert client.post(PAGE, {"action": "delete_selected", "_selected_action": run.pk}).status_code == 200
        assert IndexingRun.objects.count() == 1

    def test_search_pages_are_linked(self, client):
        client.force_login(staff())
        page = client.get(PAGE).content.decode()
        for model in ("product", "publishedproduct", "article"):
            assert f"/admin/testshop/{model}/visual-search/" in page
