"""The app's own tables in the admin: read-only records, attempts to retry, ranking rules."""

import datetime
import re
import uuid

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from django_visual_search import models, search
from django_visual_search.admin.rules import effect
from django_visual_search.indexing.status import State
from django_visual_search.models import Evidence, Feedback, IndexingAttempt, RankingRule, SearchLog

from ..conftest import embed_all, picture, picture_file
from ..staff import staff
from ..testshop.models import Article, ArticleImage, Category, Product, Spare
from .test_admin_list import eager, shown_messages  # noqa: F401
from .test_admin_status import PICTURES, PRODUCTS, attempt, status

pytestmark = pytest.mark.django_db

ADMIN = "/admin/django_visual_search/"
ODD = '"><img src=x onerror=alert(1)>'


@pytest.fixture
def products(monkeypatch):
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    made = [Product.objects.create(name=f"Product {n}", image=picture_file(n)) for n in range(4)]
    embed_all()
    return made


@pytest.fixture
def kind():
    return ContentType.objects.get_for_model(Product)


def choice(kind, product):
    return f"{kind.pk}:{product.pk}"


def test_registered_models():
    shown = {
        model.__name__ for model in vars(models).values() if isinstance(model, type) and admin.site.is_registered(model)
    }
    records = {"EmbeddingHead", "Evidence", "Feedback", "IndexingAttempt", "RankingRule", "SearchLog"}
    assert shown == {"Dashboard", "Findability", *records}


class TestRecords:
    def rows(self, kind, products, count):
        now = timezone.now()
        one, two = (str(product.pk) for product in products[:2])
        for n in range(count):
            common = {"query_id": two if n % 2 else "", "extractor_key": "x"}
            Feedback.objects.create(
                kind="click",
                created_at=now,
                content_type=kind,
                object_id=one,
                query_kind="product",
                rank=n + 1,
                digest=uuid.uuid4().hex,
                **common,
            )
            SearchLog.objects.create(
                created_at=now, label=PRODUCTS, kind="product", results=5, exact=True, milliseconds=1.5, **common
            )
            Evidence.objects.create(model="testshop.product", object_id=one, query_id=str(n), gain=1, as_of=now)

    @pytest.mark.parametrize("table", ["feedback", "searchlog", "evidence"])
    def test_lists_and_pages(self, client, kind, products, table):
        Product.objects.filter(pk=products[0].pk).update(name=ODD)
        self.rows(kind, products, 3)
        client.force_login(staff())
        page = client.get(f"{ADMIN}{table}/").content.decode()
        assert "<img src=x" not in page
        if table != "searchlog":
            assert page.count(f'<img src="{products[0].image.url}"') == 3
            assert page.count("&quot;&gt;&lt;img src=x") == 3
            assert f'href="/admin/testshop/product/{products[0].pk}/change/"' in page
        else:
            assert page.count(f'<img src="{products[1].image.url}"') == 1
        row = {"feedback": Feedback, "searchlog": SearchLog, "evidence": Evidence}[table].objects.first()
        page = client.get(f"{ADMIN}{table}/{row.pk}/change/")
        assert page.status_code == 200
        assert "<img src=x" not in page.content.decode()
        assert "_save" not in page.content.decode()

    @pytest.mark.parametrize("table", ["feedback", "searchlog", "evidence"])
    def test_each_row_leads_to_its_page(self, client, kind, products, table):
        self.rows(kind, products, 3)
        client.force_login(staff())
        page = client.get(f"{ADMIN}{table}/").content.decode()
        links = re.findall(r'<a [^>]*href="([^"]*)"[^>]*>((?:(?!<a ).)*?)</a>', page, re.DOTALL)
        own = [(address, text) for address, text in links if f"/{table}/" in address and "/change/" in address]
        assert len(own) == 3
        assert all(text.strip() for _, text in own)
        assert not re.search(r"<a [^>]*>(?:(?!</a>).)*<a ", page, re.DOTALL)  # no link inside a link

    def test_figures_are_rounded(self, client, kind, products):
        now = timezone.now()
        evidence = Evidence.objects.create(
            model="testshop.product", object_id=products[0].pk, gain=7.8251234567, exposure=1 / 3, as_of=now
        )
        log = SearchLog.objects.create(
            created_at=now,
            label=PRODUCTS,
            kind="photo",
            results=5,
            exact=True,
            best_similarity=0.98765432,
            milliseconds=12.3456789,
        )
        client.force_login(staff())
        for address in (f"{ADMIN}evidence/", f"{ADMIN}evidence/{evidence.pk}/change/"):
            page = client.get(address).content.decode()
            assert "7.83" in page
            assert "0.33" in page
            assert "7.825" not in page
        for address in (f"{ADMIN}searchlog/", f"{ADMIN}searchlog/{log.pk}/change/"):
            page = client.get(address).content.decode()
            assert "0.988" in page
            assert "12 ms" in page
            assert "0.9876" not in page

    @pytest.mark.parametrize("table", ["feedback", "searchlog", "evidence"])
    def test_queries_do_not_grow(self, client, kind, products, table):
        client.force_login(staff())

        def queries():
            with CaptureQueriesContext(connection) as captured:
                assert client.get(f"{ADMIN}{table}/").status_code == 200
            return len(captured)

        self.rows(kind, products, 2)
        queries()
        few = queries()
        Evidence.objects.all().delete()
        self.rows(kind, products, 20)
        assert queries() == few

    @pytest.mark.parametrize("table", ["feedback", "searchlog", "evidence", "indexingattempt"])
    def test_nothing_can_be_changed(self, client, kind, products, table):
        self.rows(kind, products, 1)
        attempt(PRODUCTS, products[0], products[0].image, "refused")
        model = {
            "feedback": Feedback,
            "searchlog": SearchLog,
            "evidence": Evidence,
            "indexingattempt": IndexingAttempt,
        }[table]
        row = model.objects.get()
        client.force_login(staff())
        assert client.get(f"{ADMIN}{table}/add/").status_code == 403
        assert client.post(f"{ADMIN}{table}/{row.pk}/change/", {"rank": 7}).status_code == 403
        assert client.post(f"{ADMIN}{table}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
        client.post(f"{ADMIN}{table}/", {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
        assert model.objects.count() == 1

    def test_deleted_and_unknown_products(self, client, kind):
        for object_id in ("999", "x", "99999999999999999999999"):
            Feedback.objects.create(
                kind="click", created_at=timezone.now(), content_type=kind, object_id=object_id, digest=object_id
            )
        Evidence.objects.create(model="no.such", object_id="1", as_of=timezone.now())
        SearchLog.objects.create(
            created_at=timezone.now(),
            label="no.such.field",
            query_id="1",
            kind="product",
            results=0,
            exact=True,
            milliseconds=1,
        )
        client.force_login(staff())
        for table in ("feedback", "evidence", "searchlog"):
            assert client.get(f"{ADMIN}{table}/").status_code == 200
        assert "999" in client.get(f"{ADMIN}feedback/").content.decode()


class TestAttempts:
    @pytest.fixture
    def refused(self, products):
        Product.objects.filter(pk=products[0].pk).update(embedding=None, embedding_key=None, name=ODD)
        attempt(PRODUCTS, products[0], products[0].image, "quarantined", "Killed <thrice>.", code="worker_lost")
        article = Article.objects.create(title="A")
        image = ArticleImage.objects.create(article=article, original=picture_file(7))
        attempt(PICTURES, image, image.original, "refused", "Broken.", code="corrupt")
        running = ArticleImage.objects.create(article=article, original=picture_file(8))
        attempt(PICTURES, running, running.original, "running")
        return article

    def test_list(self, client, products, refused):
        client.force_login(staff())
        page = client.get(f"{ADMIN}indexingattempt/").content.decode()
        assert "2 indexing attempts" in page
        assert "Killed &lt;thrice&gt;." in page
        assert "<img src=x" not in page
        assert f'href="/admin/testshop/product/{products[0].pk}/change/"' in page
        assert f'href="/admin/testshop/article/{refused.pk}/change/"' in page
        assert page.count("visual-search-quarantined") == 1
        assert not re.search(r"<a [^>]*>(?:(?!</a>).)*<a ", page, re.DOTALL)  # no link inside a link
        row = IndexingAttempt.objects.get(state="quarantined")
        assert re.search(rf'<a href="[^"]*/indexingattempt/{row.pk}/change/[^"]*"><span[^>]*>quarantined', page)
        assert "3" in client.get(f"{ADMIN}indexingattempt/{row.pk}/change/").content.decode()

    def test_a_field_that_no_longer_exists(self, client, products, refused):
        IndexingAttempt.objects.filter(state="refused").update(label="no.such.field")
        client.force_login(staff())
        assert client.get(f"{ADMIN}indexingattempt/").status_code == 200
        data = {"action": "retry", "_selected_action": IndexingAttempt.objects.get(state="refused").pk}
        response = client.post(f"{ADMIN}indexingattempt/", data)
        assert shown_messages(response) == [("warning", "1 picture is of an embedding field that no longer exists.")]

    @pytest.mark.django_db(transaction=True)
    def test_retry(self, client, products, refused, eager):  # noqa: F811
        client.force_login(staff())
        rows = IndexingAttempt.objects.exclude(state="running")
        data = {"action": "retry", "_selected_action": [row.pk for row in rows]}
        response = client.post(f"{ADMIN}indexingattempt/", data)
        assert shown_messages(response)[0][1].startswith("2 pictures were processed")
        assert status(products[0]).state == State.CURRENT
        assert not rows.all().exists()

    def test_who_may_retry(self, client, products, refused):
        row = IndexingAttempt.objects.get(state="quarantined")
        data = {"action": "retry", "_selected_action": row.pk}
        client.force_login(staff("django_visual_search.view_indexingattempt"))
        page = client.get(f"{ADMIN}indexingattempt/").content.decode()
        assert "Killed" in page
        assert "Retry selected pictures" not in page
        client.post(f"{ADMIN}indexingattempt/", data)
        assert IndexingAttempt.objects.filter(pk=row.pk, state="quarantined").exists()
        client.force_login(
            staff("django_visual_search.view_indexingattempt", "django_visual_search.change_indexingattempt")
        )
        assert "Retry selected pictures" in client.get(f"{ADMIN}indexingattempt/").content.decode()


class TestRules:
    ADD = f"{ADMIN}rankingrule/add/"

    def fields(self, content_type, product, **more):
        return {
            "kind": "pin",
            "object_id": choice(content_type, product),
            "query_id": "",
            "slot": 1,
            "factor": 1.2,
            **more,
        }

    def test_a_rule_is_made_and_works(self, client, kind, products):
        client.force_login(staff())
        assert client.get(self.ADD).status_code == 200
        first = search.similar_to(products[0])[-1].product
        response = client.post(self.ADD, self.fields(kind, first, query_id=choice(kind, products[0])))
        assert response.status_code == 302, response.context["errors"]
        rule = RankingRule.objects.get()
        assert (rule.product, rule.query_id, rule.slot) == (first, str(products[0].pk), 1)
        assert search.similar_to(products[0])[0].product == first
        page = client.get(f"{ADMIN}rankingrule/{rule.pk}/change/").content.decode()
        for product in (first, products[0]):
            option = f'<option value="{choice(kind, product)}" selected data-picture="{product.image.url}">'
            assert f"{option}{product.name} (product)</option>" in page
        assert page.count(f'<img src="{first.image.url}" alt="" width="40"') == 1
        data = self.fields(kind, products[1], kind="hide", slot="")
        assert client.post(f"{ADMIN}rankingrule/{rule.pk}/change/", data).status_code == 302
        assert [hit.product for hit in search.similar_to(products[0])].count(products[1]) == 0
        assert RankingRule.objects.get().query_id == ""

    def test_list(self, client, kind, products):
        Product.objects.filter(pk=products[0].pk).update(name=ODD)
        later = timezone.now() + datetime.timedelta(days=2)
        common = {"content_type": kind, "object_id": products[0].pk}
        RankingRule.objects.create(kind="pin", slot=3, query_id=products[1].pk, note="Spring " * 20, **common)
        RankingRule.objects.create(kind="boost", factor=1.5, starts_at=later, **common)
        RankingRule.objects.create(kind="hide", content_type=kind, object_id="999", ends_at=later)
        client.force_login(staff())
        page = client.get(f"{ADMIN}rankingrule/").content.decode()
        assert "<img src=x" not in page
        assert page.count(f'<img src="{products[0].image.url}"') == 2
        assert page.count("pin to place 3") == page.count("boost by 1.5") == 1
        with translation.override("de"):
            assert effect(RankingRule(kind="boost", factor=1.5)) == "um Faktor 1,5 hochstufen"
        assert page.count("every search") == 2
        assert page.count("icon-yes.svg") == 2
        assert page.count("icon-no.svg") == 1
        assert ">999<" in page
        assert re.search(r"(Spring ){5,8}…</span>|(Spring ){5,8}Spr?i?n?g?…</span>", page)

    def test_its_page_names_the_product(self, client, kind, products):
        rules = [
            RankingRule.objects.create(kind="pin", slot=3, content_type=kind, object_id=products[0].pk),
            RankingRule.objects.create(kind="hide", content_type=kind, object_id="999"),
        ]
        client.force_login(staff())
        for rule, named in zip(rules, ("Pin to place 3: Product 0", "Hide: 999"), strict=True):
            assert f"<h2>{named}</h2>" in client.get(f"{ADMIN}rankingrule/{rule.pk}/change/").content.decode()

    def test_queries_do_not_grow(self, client, kind, products):
        client.force_login(staff())

        def queries():
            with CaptureQueriesContext(connection) as captured:
                client.get(f"{ADMIN}rankingrule/")
            return len(captured)

        for product in products[:2]:
            RankingRule.objects.create(kind="hide", content_type=kind, object_id=product.pk)
        queries()
        few = queries()
        for product in products * 10:
            RankingRule.objects.create(kind="hide", content_type=kind, object_id=product.pk, query_id=products[0].pk)
        assert queries() == few

    @pytest.mark.parametrize(
        ("wrong", "said_there"),
        [
            ({"object_id": ""}, "Choose a product or a group"),
            ({"object_id": "1:999999"}, "does not exist, or you may not see it"),
            ({"object_id": "x"}, "does not exist, or you may not see it"),
            ({"object_id": ":"}, "does not exist, or you may not see it"),
            ({"object_id": "99999999999999999999:1"}, "does not exist, or you may not see it"),
            ({"slot": ""}, "A pin needs a slot"),
            ({"slot": "0"}, "greater than or equal to 1"),
            ({"kind": "boost", "factor": "7"}, "less than or equal to 2"),
            ({"query_id": "same"}, "not among its own similar items"),
            ({"query_id": "other"}, "products must be of the same model"),
            ({"object_id": "category"}, "does not exist, or you may not see it"),
        ],
    )
    def test_invalid_rules(self, client, kind, products, wrong, said_there):
        article = Article.objects.create(title="A")
        hats = Category.objects.create(name="Hats")
        named = {
            "same": choice(kind, products[0]),
            "other": choice(ContentType.objects.get_for_model(Article), article),
            "category": choice(ContentType.objects.get_for_model(Category), hats),
        }
        data = self.fields(kind, products[0], **{key: named.get(value, value) for key, value in wrong.items()})
        client.force_login(staff())
        response = client.post(self.ADD, data)
        assert response.status_code == 200
        assert said_there in str(response.context["errors"])
        assert not RankingRule.objects.exists()

    def test_only_products_that_the_user_may_see(self, client, kind, products):
        client.force_login(staff("django_visual_search.add_rankingrule"))
        response = client.post(self.ADD, self.fields(kind, products[0]))
        assert "you may not see it" in str(response.context["errors"])
        assert client.get(f"{ADMIN}rankingrule/products/").json()["results"] == []

    def test_view_permission(self, client, kind, products):
        rule = RankingRule.objects.create(kind="hide", content_type=kind, object_id=products[0].pk)
        client.force_login(staff("django_visual_search.view_rankingrule", "testshop.view_product"))
        page = client.get(f"{ADMIN}rankingrule/{rule.pk}/change/")
        assert page.status_code == 200
        assert "Product 0" in page.content.decode()
        assert "_save" not in page.content.decode()
        assert client.get(self.ADD).status_code == 403

    def test_choices(self, client, kind, products):
        client.force_login(staff())
        address = f"{ADMIN}rankingrule/products/"
        found = client.get(address, {"term": "product 2"}).json()
        assert found == {
            "results": [
                {"id": choice(kind, products[2]), "text": "Product 2 (product)", "picture": products[2].image.url}
            ],
            "pagination": {"more": False},
        }
        assert client.get(address, {"term": "no such thing"}).json()["results"] == []
        for odd in ("\0", "%", "'", "x" * 10**4):
            assert client.get(address, {"term": odd}).status_code == 200
            assert client.get(address, {"page": odd}).status_code == 400
        Product.objects.bulk_create(Product(name=f"Mass {n:02}") for n in range(45))
        pages = [client.get(address, {"term": "Mass", "page": n}).json() for n in (1, 2, 3, 4)]
        assert [len(page["results"]) for page in pages] == [20, 20, 5, 0]
        assert [page["pagination"]["more"] for page in pages] == [True, True, False, False]
        assert len({result["id"] for page in pages for result in page["results"]}) == 45
        client.force_login(staff("testshop.view_product"))
        assert client.get(address).status_code == 403

    def test_choices_of_a_model_without_an_admin(self, client, products):
        Spare.objects.create(sku="a:b", image=ContentFile(picture(1), "s.jpg"))
        client.force_login(staff())
        (found,) = client.get(f"{ADMIN}rankingrule/products/", {"term": "a:b"}).json()["results"]
        kind = ContentType.objects.get_for_model(Spare)
        assert found["id"] == f"{kind.pk}:a:b"
        data = {"kind": "hide", "object_id": found["id"], "query_id": "", "factor": 1.2}
        assert client.post(self.ADD, data).status_code == 302
        assert RankingRule.objects.get().object_id == "a:b"
