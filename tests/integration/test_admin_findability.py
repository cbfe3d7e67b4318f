"""The findability report in the admin: correct, bounded, and its permissions hold."""

import re
import time

import pytest
from celery.signals import after_task_publish
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_visual_search import feedback, findability, search
from django_visual_search.admin.base import SLOW_SECONDS
from django_visual_search.admin.findability import PER_PAGE
from django_visual_search.fields.registry import get_field
from django_visual_search.findability import Reason
from django_visual_search.indexing import publishing
from django_visual_search.models import FindabilityFinding, IndexingRun, RankingRule, ServingSpace

from ..conftest import embed_all, picture_file
from ..processes import closed_port
from ..staff import staff
from ..testshop.celery import app
from ..testshop.models import Article, ArticleImage, Product
from .test_admin_status import PICTURES, PRODUCTS, attempt

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("small_photos")]

PAGE = "/admin/django_visual_search/findability/"
MODEL = f"{PAGE}?model=testshop.Product"
VIEW, CHECK = "django_visual_search.view_findability", "django_visual_search.check_findability"
ADD = "django_visual_search.add_rankingrule"


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.clear()


@pytest.fixture
def eager():
    """Run tasks in this process, as in a project without a broker."""
    app.set_default()
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def shown(response):
    return [(one.row.product, one.row.reason) for one in response.context["shown"]]


@pytest.fixture
def use_broker():
    """Return a function that changes the broker's URL."""
    before = app.conf.broker_url

    def use(url):
        publishing.disconnect()
        app.conf.broker_url = url
        app.set_default()

    yield use
    use(before)


@pytest.fixture
def sent(use_broker):
    """Return a list of the tasks that are sent to Celery, by a broker in memory."""
    use_broker("memory://")
    tasks = []

    def collect(sender, body, **kwargs):
        tasks.append((sender, *body[0]))

    after_task_publish.connect(collect)
    yield tasks
    after_task_publish.disconnect(collect)


class TestPage:
    def test_every_reason_with_its_count_and_products(self, client):
        bare = Product.objects.create(name="Bare")
        made = [Product.objects.create(name=f"Product {n}", image=picture_file(n)) for n in range(4)]
        copy = Product.objects.create(name="Copy", image=picture_file(3, "copy.jpg"))
        embed_all()
        findability.check(get_field(PRODUCTS), seed=0)
        Product.objects.filter(pk=made[0].pk).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, made[0], made[0].image, "refused")
        client.force_login(staff())
        response = client.get(MODEL)
        counts = {reason: count for reason, count, _, _ in response.context["reasons"]}
        assert {reason: count for reason, count in counts.items() if count} == {
            Reason.NO_PICTURE: 1,
            Reason.REFUSED: 1,
            Reason.DUPLICATE: 2,
        }
        duplicates = {(str(made[3].pk), Reason.DUPLICATE), (str(copy.pk), Reason.DUPLICATE)}
        found = shown(response)
        assert found[:2] == [(str(bare.pk), Reason.NO_PICTURE), (str(made[0].pk), Reason.REFUSED)]
        assert set(found[2:]) == duplicates
        page = response.content.decode()
        assert f'href="/admin/testshop/product/{copy.pk}/change/"' in page
        assert copy.image.url in page
        (only,) = [address for reason, _, address, _ in response.context["reasons"] if reason is Reason.DUPLICATE]
        assert set(shown(client.get(PAGE + only))) == duplicates

    def test_a_slow_count_does_not_outlive_the_next_check(self, client):
        def slow(execute, sql, params, many, context):
            if "findabilityfinding" in sql:
                time.sleep(SLOW_SECONDS + 0.1)
            return execute(sql, params, many, context)

        for name in ("one", "copy"):
            Product.objects.create(name=name, image=picture_file(1, f"{name}.jpg"))
        embed_all()
        client.force_login(staff())
        with connection.execute_wrapper(slow):
            assert shown(client.get(MODEL)) == []
        findability.check(get_field(PRODUCTS), seed=0)
        assert [reason for _, reason in shown(client.get(MODEL))] == [Reason.DUPLICATE] * 2

    def test_findings_before_a_switch_do_not_count(self, client):
        Product.objects.create(name="one", image=picture_file(1))
        Product.objects.create(name="copy", image=picture_file(1, "copy.jpg"))
        embed_all()
        now = timezone.now()
        space = ServingSpace.objects.create(
            label=PRODUCTS,
            extractor="default",
            previous_extractor="default",
            changed_at=now,
            effective_at=now,
            finished_at=now,
        )
        findability.check(get_field(PRODUCTS), seed=0)
        client.force_login(staff())
        switched = "Its vectors were switched since"
        assert switched not in client.get(MODEL).content.decode()
        assert findability.count_unfindable(Product)[Reason.DUPLICATE] == 2
        space.effective_at = timezone.now() + timezone.timedelta(minutes=1)
        space.save()
        assert switched not in client.get(MODEL).content.decode(), "not yet"
        space.effective_at = timezone.now()
        space.save()
        assert switched in client.get(MODEL).content.decode()

    def test_nothing_unfindable(self, client):
        client.force_login(staff())
        page = client.get(MODEL).content.decode()
        assert "No unfindable products." in page
        assert "none yet: look-alikes and duplicates are unknown" in page
        assert "No product with this reason." in client.get(f"{MODEL}&reason=stale").content.decode()

    def test_pages_span_reasons(self, client):
        bare = [Product.objects.create(name=f"Bare {n}") for n in range(PER_PAGE - 3)]
        waiting = [Product.objects.create(name=f"New {n}", image=picture_file(1, f"{n}.jpg")) for n in range(8)]
        client.force_login(staff())
        expected = [(str(one.pk), Reason.NO_PICTURE) for one in bare]
        expected += [(str(one.pk), Reason.MISSING) for one in waiting]
        first, second = client.get(MODEL), client.get(f"{MODEL}&p=2")
        assert shown(first) == expected[:PER_PAGE]
        assert shown(second) == expected[PER_PAGE:]
        assert "p=2" in first.content.decode()
        assert shown(client.get(f"{MODEL}&p=nonsense&reason=nonsense")) == expected[:PER_PAGE]

    def test_queries_do_not_grow_with_the_products(self, client):
        client.force_login(staff())
        counts = []
        for size in (3, 20):
            Product.objects.bulk_create(Product(name=f"Bare {n}") for n in range(size))
            client.get(MODEL)  # which space serves is cached from here on
            cache.clear()
            with CaptureQueriesContext(connection) as captured:
                client.get(MODEL)
            counts.append(len(captured))
        assert counts[0] == counts[1]

    def test_the_picture_that_was_checked_is_shown(self, client):
        made = [Article.objects.create(title=f"A{n}") for n in range(2)]
        pictures = [ArticleImage.objects.create(article=a, original=picture_file(1, f"{a.pk}.jpg")) for a in made]
        embed_all(PICTURES)
        findability.check(get_field(PICTURES), seed=0)
        client.force_login(staff())
        page = client.get(f"{PAGE}?model=testshop.Article").content.decode()
        assert all(picture.original.url in page for picture in pictures)

    def test_progress_of_a_running_check(self, client):
        now = timezone.now()
        run = IndexingRun.objects.create(
            label=PRODUCTS, kind="findability", started_at=now, updated_at=now, total=1200, done=300
        )
        client.force_login(staff())
        response = client.get(MODEL)
        assert "300 of 1200 products" in response.content.decode().replace(",", "")
        assert response.context["reload_seconds"] == 5
        IndexingRun.objects.filter(pk=run.pk).update(updated_at=now - timezone.timedelta(hours=2))
        assert ", unfinished" in client.get(MODEL).content.decode()

    def test_a_product_that_is_gone(self, client):
        made = [Product.objects.create(name=str(n), image=picture_file(1, f"{n}.jpg")) for n in range(2)]
        embed_all()
        findability.check(get_field(PRODUCTS), seed=0)
        gone = str(made[0].pk)
        made[0].delete()
        client.force_login(staff())
        page = client.get(MODEL).content.decode()
        assert f'<span class="visual-search-gone">{gone}</span>' in page

    def test_names_are_escaped(self, client):
        made = [Product.objects.create(name="<script>x</script>", image=picture_file(1, f"{n}.jpg")) for n in range(2)]
        embed_all()
        findability.check(get_field(PRODUCTS), seed=0)
        FindabilityFinding.objects.update(other_id="<b>")
        client.force_login(staff())
        page = client.get(MODEL).content.decode()
        assert len(made) == 2
        assert "<script>x" not in page
        assert "<b>" not in page


class TestPermissions:
    def test_without_view_permission(self, client):
        client.force_login(staff("testshop.view_product"))
        assert client.get(PAGE).status_code == 403
        client.force_login(staff(VIEW))
        page = client.get(MODEL).content.decode()
        assert "There are no products that you may view." in page

    def test_only_products_that_the_user_may_view(self, client):
        Article.objects.create(title="Secret article")
        Product.objects.create(name="Bare")
        client.force_login(staff(VIEW, "testshop.view_product"))
        page = client.get(f"{PAGE}?model=testshop.Article").content.decode()
        assert "Article" not in page
        assert "Bare" in page or "Product object" in page

    def test_there_are_no_rows_to_edit(self, client):
        client.force_login(staff())
        assert client.get(f"{PAGE}add/").status_code == 404
        assert client.get(f"{PAGE}1/change/").status_code == 404

    def test_who_may_start_a_check(self, client, sent):
        client.force_login(staff(VIEW, "testshop.view_product"))
        assert "Check now" not in client.get(MODEL).content.decode()
        assert client.post(MODEL).status_code == 403
        client.force_login(staff(VIEW, CHECK, "testshop.view_product"))
        assert "Check now" in client.get(MODEL).content.decode()
        response = client.post(MODEL, follow=True)
        assert "The check begins as soon as a worker is free." in response.content.decode()
        assert sent == [("django_visual_search.check_findability", PRODUCTS)]

    def test_the_page_reloads_until_its_check_begins(self, client, sent):
        client.force_login(staff())
        before = timezone.now() - timezone.timedelta(hours=1)
        run = IndexingRun.objects.create(
            label=PRODUCTS, kind="findability", started_at=before, updated_at=before, finished_at=before
        )
        address = client.post(MODEL).url
        loads = lambda: client.get(PAGE + address).context["reload_seconds"]  # noqa: E731
        assert loads() == 5
        assert client.get(MODEL).context["reload_seconds"] is None
        for expected, started in ((5, before), (None, timezone.now())):
            IndexingRun.objects.filter(pk=run.pk).update(started_at=started, finished_at=started, updated_at=started)
            assert loads() == expected
        IndexingRun.objects.all().delete()
        for moment in (0, "x", 10**30, 10**12):
            assert client.get(f"{MODEL}&requested={moment}").context["reload_seconds"] is None

    def test_a_running_check_is_not_started_again(self, client, sent):
        now = timezone.now()
        IndexingRun.objects.create(label=PRODUCTS, kind="findability", started_at=now, updated_at=now, total=9)
        client.force_login(staff())
        assert "already running" in client.post(MODEL, follow=True).content.decode()
        assert sent == []

    def test_a_broker_that_does_not_answer(self, client, use_broker):
        use_broker(f"redis://127.0.0.1:{closed_port()}/0")
        client.force_login(staff())
        assert "nothing was started" in client.post(MODEL, follow=True).content.decode()

    @pytest.mark.django_db(transaction=True)
    def test_without_workers_it_runs_in_this_process(self, client, eager):
        one, other = (Product.objects.create(name=f"Product {n}", image=picture_file(1)) for n in range(2))
        embed_all()
        client.force_login(staff())
        page = client.post(MODEL, follow=True)
        assert "The check has begun, in this process" in page.content.decode()
        end = time.monotonic() + 60
        while not IndexingRun.objects.filter(kind="findability", finished_at__isnull=False).exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        rows = {row.row.product: dict(row.fixes) for row in client.get(MODEL).context["shown"]}
        fixes = rows[str(one.pk)]
        assert fixes.pop("Delete the other one") == f"/admin/testshop/product/{other.pk}/delete/"
        assert client.get(fixes.pop("The same product: keep one")).status_code == 200
        assert not fixes

    def test_the_fix_is_linked(self, client):
        bare = Product.objects.create(name="Bare")
        client.force_login(staff())
        (row,) = client.get(MODEL).context["shown"]
        assert row.fixes == [("Add a picture", f"/admin/testshop/product/{bare.pk}/change/#id_image")]
        client.force_login(staff(VIEW, "testshop.view_product"))
        assert client.get(MODEL).context["shown"][0].fixes == []


class TestPair:
    """Two products that are the same: one is kept, and a rule hides the other."""

    @pytest.fixture
    def pair(self):
        pair = [Product.objects.create(name=f"Twin {n}", image=picture_file(1, f"{n}.jpg")) for n in range(2)]
        Product.objects.create(name="Else", image=picture_file(2))
        embed_all()
        findability.check(get_field(PRODUCTS), seed=0)
        return pair

    @staticmethod
    def url(client, product):
        rows = {row.row.product: dict(row.fixes) for row in client.get(MODEL).context["shown"]}
        return rows[str(product.pk)]["The same product: keep one"]

    def test_the_other_is_hidden_until_the_rule_is_deleted(self, client, pair):
        one, other = pair
        client.force_login(staff())
        url = self.url(client, one)
        assert client.get(url).context["kept"] == str(one.pk), "without feedback, the row's own"
        found = [hit.product for hit in search.similar_to(one, field=PRODUCTS, within=Product.objects.all())]
        assert other in found
        page = client.post(url, {"keep": str(one.pk)}, follow=True)
        assert "Twin 1 is hidden from visual search" not in page.content.decode(), "test products have no names"
        (rule,) = RankingRule.objects.all()
        assert (rule.kind, rule.object_id, rule.query_id) == ("hide", str(other.pk), "")
        assert page.context["shown"] == [], "neither is in the report any more"
        assert findability.count_unfindable(Product)[Reason.DUPLICATE] == 0
        found = search.similar_to(one, field=PRODUCTS, within=Product.objects.all())
        assert other not in [hit.product for hit in found]
        client.post(url, {"keep": str(one.pk)})
        assert RankingRule.objects.count() == 1, "pressed twice"
        undo = re.search(r'href="([^"]+/delete/)"', page.content.decode())[1]
        client.post(undo, {"post": "yes"})
        assert findability.count_unfindable(Product)[Reason.DUPLICATE] == 2
        found = search.similar_to(one, field=PRODUCTS, within=Product.objects.all())
        assert other in [hit.product for hit in found]

    def test_what_shoppers_chose_is_kept(self, client, pair):
        one, other = pair
        feedback.record("click", other, user=staff())
        client.force_login(staff())
        page = client.get(self.url(client, one))
        assert page.context["kept"] == str(other.pk)
        client.post(self.url(client, one), {"keep": str(other.pk)})
        assert RankingRule.objects.get().object_id == str(one.pk)

    def test_permissions_and_nonsense(self, client, pair):
        one, other = pair
        client.force_login(staff())
        url = self.url(client, one)
        for user, status in (
            (staff(VIEW, "testshop.view_product"), 403),
            (staff("testshop.view_product", ADD), 403),
            (staff(VIEW, ADD), 404),
            (staff(VIEW, ADD, "testshop.view_product"), 200),
        ):
            client.force_login(user)
            assert client.get(url).status_code == status
            assert client.post(url, {"keep": "nonsense"}).status_code == status
        assert not RankingRule.objects.exists()
        nonsense = f"{PAGE}pair/?model={{}}&product={{}}&other={{}}"
        for model, *keys in (
            ("testshop.Product", one.pk, one.pk),
            ("testshop.Product", one.pk, 0),
            ("testshop.Product", "x%00", "y"),
            ("auth.User", one.pk, other.pk),
        ):
            assert client.get(nonsense.format(model, *keys)).status_code == 404
