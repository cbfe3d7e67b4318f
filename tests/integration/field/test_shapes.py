"""The rows of "In a stranger's shop" that the test shop's own models show."""

import datetime
import io
import threading

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.db import connection, transaction
from django.template import RequestContext, Template
from django.utils import timezone

from django_visual_search import feedback, search
from django_visual_search.decoding.pool import DecoderPool
from django_visual_search.feedback.privacy import purge_some
from django_visual_search.fields.registry import get_field
from django_visual_search.management.commands import reindex_embeddings
from django_visual_search.models import Feedback, IndexingAttempt, RankingRule, SearchLog
from django_visual_search.search import planning
from django_visual_search.spaces.extractors import extractor_of

from ...conftest import embed_all, picture_file
from ...processes import until
from ...testshop.models import Article, ArticleImage, Product

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    client.force_login(User.objects.create(username="boss", is_staff=True, is_superuser=True))
    return client


LABEL = "testshop.Product.embedding"


@pytest.fixture
def products():
    made = [Product.objects.create(name=f"p{i}", price=i, image=picture_file(i)) for i in range(8)]
    embed_all()
    return [Product.objects.get(pk=product.pk) for product in made]


class TestRow6:
    """``USE_TZ = False``."""

    @pytest.fixture(autouse=True)
    def naive(self, settings):
        settings.USE_TZ = False

    def test_a_purchase_is_recorded_and_counted(self, products):
        results = search.similar_to(products[0])
        assert feedback.record("purchase", products[1], results=results, reference="1")
        assert feedback.record("purchase", products[2], at=datetime.datetime.now() - datetime.timedelta(hours=1))
        feedback.aggregate()
        assert Feedback.objects.count() == 3  # a look too
        hits = {hit.product: hit for hit in search.similar_to(products[0])}
        assert "feedback" in hits[products[1]].reasons

    def test_a_time_zone_is_fine_too(self, products):
        assert feedback.record("purchase", products[1], at=datetime.datetime.now(datetime.UTC))
        assert abs(Feedback.objects.get().created_at - timezone.now()) < datetime.timedelta(minutes=1)

    def test_the_shop_works(self, products, client, staff):
        assert IndexingAttempt.objects.count() == 0
        page = client.get(f"/visual-search/testshop/product/{products[0].pk}/similar/")
        assert page.status_code == 200
        events = [{"kind": "click", "product": page.json()["results"][0]["id"]}]
        sent = {"token": page.json()["token"], "events": events}
        assert client.post("/visual-search/feedback/", sent, "application/json").json() == {"counted": 1}
        assert SearchLog.objects.count() == 1
        broken = Product.objects.create(name="broken", image=picture_file(90))
        Product.objects.filter(pk=broken.pk).update(image="nowhere.jpg")
        assert embed_all().refused == 1
        for path in ("dashboard/", "feedback/", "evidence/", "indexingattempt/", "searchlog/"):
            assert staff.get(f"/admin/django_visual_search/{path}").status_code == 200, path
        purge_some()


class TestRow6Errors:
    """Feedback raises into an order only for a programming error."""

    def test_naive_times_are_the_shops_own(self, products):
        at = datetime.datetime.now().replace(microsecond=0)
        assert feedback.record("purchase", products[1], at=at)
        assert Feedback.objects.get().created_at == timezone.make_aware(at)

    @pytest.mark.parametrize("fault", [RuntimeError, KeyError, ValueError])
    def test_other_faults_are_logged(self, products, monkeypatch, caplog, fault):
        def broken(*args, **kwargs):
            raise fault("somewhere inside")

        monkeypatch.setattr("django_visual_search.feedback.recording.make_event", broken)
        assert not feedback.record("purchase", products[1])
        assert "could not be recorded" in caplog.text

    def test_a_client_address_that_fails(self, products, rf, settings, caplog):
        def broken(request):
            raise KeyError("HTTP_X_REAL_IP")

        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "CLIENT_ADDRESS": broken}
        assert not feedback.record("purchase", products[1], request=rf.get("/"))
        assert "could not be recorded" in caplog.text


class DatabaseStorage(FileSystemStorage):
    """A storage that asks the database for its files, as several packages do."""

    opened = []

    def _open(self, name, mode="rb"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
            self.opened.append((threading.get_ident(), pid))
        return super()._open(name, mode)


def alive(pids):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [list(pids)])
        return cursor.fetchall()


@pytest.mark.django_db(transaction=True)
class TestRow7:
    """Connections in our own threads."""

    def test_are_closed_after_use_and_opened_again_after_the_server_closed_them(self, products):
        storage, pool = DatabaseStorage(), DecoderPool()
        names, spec = [product.image.name for product in products[:4]], extractor_of(get_field(LABEL)).spec
        try:
            for _ in range(3):
                storage.opened.clear()
                decoded = [one for future in pool.submit(storage, names, spec) for one in future.result(30)]
                assert not [one for one in decoded if isinstance(one, Exception)]
                assert {thread for thread, _ in storage.opened}.isdisjoint({threading.get_ident()})
                until(lambda: not alive(pid for _, pid in storage.opened), 5, "the end of the threads' connections")
        finally:
            pool.close()

    def test_survive_that_the_server_closes_them(self, products, settings, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
        storage, pool = DatabaseStorage(), DecoderPool()
        names, spec = [products[0].image.name], extractor_of(get_field(LABEL)).spec
        try:
            for _ in range(4):
                storage.opened.clear()
                [[decoded]] = [future.result(30) for future in pool.submit(storage, names, spec)]
                assert not isinstance(decoded, Exception)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(%s)", [storage.opened[0][1]])
        finally:
            pool.close()


class TestRow8:
    """One bad neighbour doesn't break a page."""

    @pytest.fixture(params=["thumbnail", "picture", "address", "title"])
    def bad(self, request, products, settings, monkeypatch):
        bad = products[1]

        def broken(one, *args):
            if (
                getattr(one, "pk", None) == bad.pk
                or getattr(one, "name", None) == bad.image.name
                or one == bad.image.name
            ):
                raise ValueError("not to be had")
            return "/there"

        if request.param == "thumbnail":
            settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "THUMBNAIL": broken}
        elif request.param == "picture":
            monkeypatch.setattr(Product._meta.get_field("image").storage, "url", broken, raising=False)
        elif request.param == "address":
            monkeypatch.setattr(Product, "get_absolute_url", broken, raising=False)
        else:
            monkeypatch.setattr(Product, "__str__", broken)
        return bad

    def test_tag(self, bad, products, rf, caplog):
        page = Template("{% load visual_search %}{% similar_items product %}")
        shown = page.render(RequestContext(rf.get("/"), {"product": products[0]}))
        assert shown.count("data-visual-search-hit") == 7
        [line] = [record for record in caplog.records if "not to be had" in record.getMessage()]
        assert str(bad.pk) in line.getMessage() or bad.image.name in line.getMessage()

    def test_api_photo_page_and_admin(self, bad, products, client, staff):
        page = client.get(f"/visual-search/testshop/product/{products[0].pk}/similar/")
        assert [page.status_code, len(page.json()["results"])] == [200, 7]
        photo = {"image": picture_file(0)}
        page = client.post("/visual-search/photo/testshop/product/", photo)
        assert [page.status_code, page.content.decode().count("data-visual-search-hit")] == [200, 8]
        page = staff.get(f"/admin/testshop/product/{products[0].pk}/change/")
        assert page.status_code == 200
        if "__str__" not in vars(Product):  # Django's own list calls it
            assert staff.get("/admin/testshop/product/").status_code == 200


@pytest.mark.django_db(transaction=True)
class TestRow11:
    """No autocommit."""

    def test_saving_works_and_the_sweep_finds_it(self, products):
        transaction.set_autocommit(False)
        try:
            products[0].image = picture_file(50)
            products[0].save()
            new = Product.objects.create(name="new", image=picture_file(51))
            products[1].image.save(products[1].image.name, picture_file(52))
            transaction.commit()
            assert len(search.similar_to(products[2])) == 7
            products[2].delete()
            image = ArticleImage.objects.create(article=Article.objects.create(title="a"), original=picture_file(1))
            rule = {"content_type": ContentType.objects.get_for_model(Product), "object_id": str(products[3].pk)}
            RankingRule.objects.create(kind="hide", **rule).delete()
            assert feedback.record("purchase", products[3])
            transaction.commit()
            image.delete()
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert embed_all().done == 3
        assert search.similar_to(new)[0].product != new


class TestRow14:
    """Caches filled inside of a transaction that is rolled back."""

    def test_a_rule_that_is_rolled_back_never_acts(self, products):
        seen = search.similar_to(products[0])[0].product
        planning.forget_facts()
        with transaction.atomic():
            rule = {"content_type": ContentType.objects.get_for_model(Product), "object_id": str(seen.pk)}
            RankingRule.objects.create(kind="hide", **rule)
            assert seen not in [hit.product for hit in search.similar_to(products[0])]
            transaction.set_rollback(True)
        assert search.similar_to(products[0])[0].product == seen


class TestRow15:
    """Set operations as ``within``."""

    def parts(self):
        return Product.objects.filter(price__lt=5), Product.objects.filter(price__gt=2)

    def test_as_within(self, products):
        first, second = self.parts()
        for operation in ("union", "intersection", "difference"):
            for order in ((), ("-price",), ("name", "-price"), ("pk",)):
                for part in (slice(None), slice(5), slice(1, 4)):
                    within = getattr(first, operation)(second).order_by(*order)[part]
                    expected = {product.pk for product in within} - {products[0].pk}
                    found = search.similar_to(products[0], within=within)
                    assert {hit.product.pk for hit in found} == expected, (operation, order, part)

    def test_as_within_of_companions(self, products):
        articles = [Article.objects.create(title=f"a{i}") for i in range(5)]
        for i, article in enumerate(articles):
            ArticleImage.objects.create(article=article, original=picture_file(i))
        embed_all("testshop.ArticleImageEmbedding.embedding")
        first, second = Article.objects.filter(title__lt="a3"), Article.objects.filter(title="a4")
        within = first.union(second).order_by("-title")[:3]
        assert {hit.product for hit in search.similar_to(articles[0], within=within)} == {*articles[1:3], articles[4]}


@pytest.mark.django_db(transaction=True)
class TestRow19:
    """The API's errors."""

    def test_a_missing_table_is_503(self, products, client, caplog):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE testshop_product RENAME TO elsewhere")
        try:
            answers = [
                client.get(f"/visual-search/testshop/product/{products[0].pk}/similar/"),
                client.post("/visual-search/testshop/product/search-by-image/", {"image": picture_file(0)}),
                client.post("/visual-search/photo/testshop/product/", {"image": picture_file(0)}),
            ]
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE elsewhere RENAME TO testshop_product")
        assert [answer.status_code for answer in answers] == [503] * 3
        assert answers[0].json()["code"] == "database"
        assert answers[0]["Retry-After"]
        assert "testshop_product" in caplog.text
        assert "testshop_product" not in answers[0].content.decode()

    def test_options_in_url_and_body(self, products, client):
        url = "/visual-search/testshop/product/search-by-image/"
        assert len(client.post(f"{url}?limit=3", {"image": picture_file(0)}).json()["results"]) == 3
        assert len(client.post(url, {"image": picture_file(0), "limit": 3}).json()["results"]) == 3
        assert len(client.post(f"{url}?limit=3&ranking=false", {"image": picture_file(0)}).json()["results"]) == 3
        assert client.post(f"{url}?limt=3", {"image": picture_file(0)}).status_code == 400
        assert client.post(f"{url}?limit=x", {"image": picture_file(0)}).status_code == 400
        assert len(client.post(f"{url}?limit=3", {"image": picture_file(0), "limit": 2}).json()["results"]) == 2


class TestRow21:
    """Small things."""

    def test_the_photo_page_has_a_title_under_a_base_of_the_shops_own(self, settings, client):
        base = "<title>{% block title %}{% endblock %} - Shop</title>{% block main %}{% endblock %}"
        [engine] = settings.TEMPLATES
        loaders = [
            ("django.template.loaders.locmem.Loader", {"visual_search/base.html": base}),
            "django.template.loaders.app_directories.Loader",
        ]
        options = {**engine["OPTIONS"], "loaders": loaders}
        settings.TEMPLATES = [{"BACKEND": engine["BACKEND"], "OPTIONS": options}]
        page = client.get("/visual-search/photo/testshop/product/").content.decode()
        assert "<title>Search by photo - Shop</title>" in page
        assert "Choose a photo of something you like, and see the products that look most like it." in page

    def test_a_reindex_counts_what_another_has_done_meanwhile(self, products, monkeypatch):
        def passes(*args):
            embed_all()
            yield from ()

        monkeypatch.setattr(reindex_embeddings.Command, "_passes", passes)
        out = io.StringIO()
        call_command("reindex_embeddings", LABEL, "--force", "--sync", stdout=out)
        assert "0 done, 8 skipped" in out.getvalue()
