"""The product list of the admin: column, filter, actions and who may use them."""

import re

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.files.base import ContentFile
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_visual_search import indexing
from django_visual_search.admin import VisualSearchAdminMixin, attempts
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing.status import State
from django_visual_search.spaces.live import live_spaces

from ..conftest import embed_all, picture_file
from ..processes import REDIS, closed_port, need, shop, until  # noqa: F401
from ..staff import staff
from ..testshop.admin import ArticleAdmin, ProductAdmin
from ..testshop.celery import app
from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Product
from .test_admin_status import PICTURES, PRODUCTS, attempt, status

pytestmark = pytest.mark.django_db

LIST = "/admin/testshop/product/"


@pytest.fixture
def products():
    made = [Product.objects.create(name=f"Product {n}", image=picture_file(n)) for n in range(4)]
    embed_all()
    return made


@pytest.fixture
def eager():
    """Run tasks in this process, as in a project without a broker."""
    app.set_default()
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def post(client, action, products, address=LIST, **more):
    data = {"action": action, "_selected_action": [product.pk for product in products], **more}
    return client.post(address, data)


def outcome_in(client, text):
    """What the page that a message links to says became of the pictures, without zeros."""
    page = client.get(re.search('href="([^"]*)"', text)[1])
    outcome = page.context["outcome"]
    assert bool(page.context["reload_seconds"]) is not outcome.is_over
    names = ("done", "refused", "failed", "quarantined", "waiting")
    return {name: getattr(outcome, name) for name in names if getattr(outcome, name)}


def shown_messages(response):
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


class TestColumn:
    def test_states_and_reasons_are_shown(self, client, products):
        Product.objects.filter(pk=products[1].pk).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, products[1], products[1].image, "refused", "<b>Broken</b> & unreadable.")
        client.force_login(staff())
        page = client.get(LIST).content.decode()
        assert page.count('class="visual-search-status visual-search-current"') == 3
        assert page.count('class="visual-search-status visual-search-refused"') == 1
        assert "&lt;b&gt;Broken&lt;/b&gt; &amp; unreadable." in page
        assert "<b>Broken" not in page
        assert "django_visual_search/admin.css" in page
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")", page), "no inline scripts"

    def test_odd_names_are_escaped(self, client):
        Product.objects.create(name='"><img src=x onerror=alert(1)>')
        client.force_login(staff())
        assert "<img src=x" not in client.get(LIST).content.decode()

    def test_queries_do_not_grow_with_the_page(self, client):
        client.force_login(staff())

        def queries():
            with CaptureQueriesContext(connection) as captured:
                assert client.get(LIST).status_code == 200
            return [query["sql"] for query in captured]

        Product.objects.create(name="A", image=picture_file(0))
        live_spaces(get_field("testshop.Product"))  # cached for a while
        few = queries()
        Product.objects.bulk_create(Product(name=str(n), image=f"{n}.jpg") for n in range(60))
        many = queries()
        assert len(many) == len(few)
        assert len([sql for sql in many if "visual_state" in sql]) == 1

    def test_several_pictures(self, client):
        article = Article.objects.create(title="A")
        for seed in range(3):
            ArticleImage.objects.create(article=article, original=picture_file(seed))
        embed_all(PICTURES)
        ArticleImageEmbedding.objects.filter(image=ArticleImage.objects.first()).delete()
        client.force_login(staff())
        assert "missing, 1 of 3" in client.get("/admin/testshop/article/").content.decode()

    def test_the_list_stays_editable(self, client, products):
        client.force_login(staff("testshop.change_product"))
        data = {"form-TOTAL_FORMS": 4, "form-INITIAL_FORMS": 4, "_save": "Save"}
        for n, product in enumerate(Product.objects.order_by("-pk")):
            data |= {f"form-{n}-id": product.pk, f"form-{n}-price": 100 + n}
        assert client.post(LIST, data).status_code == 302
        assert sorted(Product.objects.values_list("price", flat=True)) == [100, 101, 102, 103]


class TestFilter:
    def names(self, client, value, address=LIST):
        response = client.get(address, {"visual_search": value})
        return {product.name for product in response.context["cl"].result_list}

    def test_each_state(self, client, products):
        one, two, three, four = products
        Product.objects.filter(pk=two.pk).update(embedding_key="other:x")
        Product.objects.filter(pk__in=[three.pk, four.pk]).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, four, four.image, "quarantined")
        empty = Product.objects.create(name="Without")
        client.force_login(staff())
        assert self.names(client, "current") == {one.name}
        assert self.names(client, "stale") == {two.name}
        assert self.names(client, "missing") == {three.name, empty.name}
        assert self.names(client, "quarantined") == {four.name}
        assert self.names(client, "refused") == set()
        assert len(self.names(client, "nonsense")) == 5

    def test_within_a_proxys_products(self, client, products):
        Product.objects.filter(pk=products[0].pk).update(is_published=False)
        client.force_login(staff())
        names = self.names(client, "current", "/admin/testshop/publishedproduct/")
        assert names == {product.name for product in products[1:]}

    def test_counts(self, client, products):
        client.force_login(staff())
        assert "current (4)" in client.get(LIST, {"_facets": "True"}).content.decode()


class TestActions:
    def test_view_permission_gives_no_actions(self, client, products):
        client.force_login(staff("testshop.view_product"))
        page = client.get(LIST)
        assert page.status_code == 200
        assert "visual_search_reindex" not in page.content.decode()
        post(client, "visual_search_reindex", products)
        post(client, "visual_search_retry", products)
        assert {status(product).state for product in products} == {State.CURRENT}

    def test_without_any_permission(self, client, products):
        client.force_login(staff("testshop.view_category"))
        assert post(client, "visual_search_reindex", products).status_code == 403
        assert {status(product).state for product in products} == {State.CURRENT}

    def test_the_permission_is_a_hook(self, client, products, monkeypatch):
        monkeypatch.setattr(ProductAdmin, "has_reindex_permission", lambda self, request: False)
        client.force_login(staff())
        assert "visual_search_reindex" not in client.get(LIST).content.decode()
        post(client, "visual_search_reindex", products)
        assert status(products[0]).state == State.CURRENT

    def test_a_shop_without_actions_has_none(self, client):
        article = Article.objects.create(title="A")
        ArticleImage.objects.create(article=article, original=picture_file(1))
        client.force_login(staff())
        assert "visual_search_reindex" not in client.get("/admin/testshop/article/").content.decode()

    def test_change_permission_gives_actions(self, client, products):
        client.force_login(staff("testshop.change_product"))
        page = client.get(LIST).content.decode()
        assert "visual_search_reindex" in page
        assert "visual_search_retry" in page

    @pytest.mark.django_db(transaction=True)
    def test_eager_tasks_run_at_once(self, client, products, eager):
        client.force_login(staff())
        before = Product.objects.get(pk=products[0].pk).embedding
        Product.objects.filter(pk=products[0].pk).update(embedding=[0.5] * 48)
        response = post(client, "visual_search_reindex", products[:2])
        [(level, text)] = shown_messages(response)
        assert level == "success"
        assert text.startswith("2 pictures were processed right away. 2 done, 0 refused, 0 failed. <a href=")
        assert outcome_in(client, text) == {"done": 2}
        assert Product.objects.get(pk=products[0].pk).embedding == before
        assert {status(product).state for product in products} == {State.CURRENT}

    @pytest.mark.django_db(transaction=True)
    def test_retry_takes_only_quarantined_pictures(self, client, products, eager):
        refused, quarantined = products[1:3]
        Product.objects.exclude(pk=products[3].pk).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, refused, refused.image, "refused")
        attempt(PRODUCTS, quarantined, quarantined.image, "quarantined")
        client.force_login(staff())
        response = post(client, "visual_search_retry", products)
        assert shown_messages(response)[0][1].startswith("1 picture was processed")
        states = [State.MISSING, State.REFUSED, State.CURRENT, State.CURRENT]
        assert [status(product).state for product in products] == states
        assert shown_messages(post(client, "visual_search_retry", products))[-1] == (
            "warning",
            "None of the selected products has a quarantined picture.",
        )

    @pytest.mark.django_db(transaction=True)
    def test_what_became_of_each(self, client, products, eager):
        gone, broken, failing, _fine = products
        broken.image.storage.save(broken.image.name + ".x", ContentFile(b"no picture"))
        Product.objects.filter(pk=broken.pk).update(image=broken.image.name + ".x")
        client.force_login(staff())
        [(_level, text)] = shown_messages(post(client, "visual_search_reindex", products))
        assert "3 done, 1 refused, 0 failed." in text
        attempt(PRODUCTS, failing, failing.image, "failed")
        Product.objects.filter(pk=failing.pk).update(embedding_key="other:x")
        Product.objects.filter(pk=gone.pk).delete()
        assert outcome_in(client, text) == {"done": 1, "refused": 1, "failed": 1}
        url = re.search('href="([^"]*)"', text)[1]
        assert "indexingattempt/?state=refused" in client.get(url).content.decode()
        client.force_login(staff("testshop.view_category"))
        assert client.get(url).status_code == 403
        client.force_login(staff("testshop.view_product"))
        assert "indexingattempt/?state" not in client.get(url).content.decode()

    def test_nothing_to_do(self, client):
        product = Product.objects.create(name="A")
        client.force_login(staff())
        response = post(client, "visual_search_reindex", [product])
        assert shown_messages(response) == [("warning", "The selected products have no pictures.")]

    @pytest.mark.django_db(transaction=True)
    def test_a_worker_embeds(self, client, shop, products):  # noqa: F811
        need(REDIS)
        embed_all()
        client.force_login(staff())
        first = {product.pk for product in Product.objects.all()}
        assert {status(product).state for product in products} == {State.CURRENT}
        worker = shop.worker(processes=1)
        response = post(client, "visual_search_reindex", products)
        [(level, text)] = shown_messages(response)
        assert (level, text.partition(" <a")[0]) == ("success", "4 pictures were sent to be embedded again.")
        until(lambda: {status(product).state for product in products} == {State.CURRENT}, 30, "the reindex")
        assert outcome_in(client, text) == {"done": 4}
        assert first == {product.pk for product in Product.objects.all()}
        assert "django_visual_search.embed" in worker.log.read_text()

    @pytest.mark.django_db(transaction=True)
    def test_with_a_dead_broker_the_sweep_embeds(self, client, shop, products):  # noqa: F811
        embed_all()
        shop.use_broker(f"redis://127.0.0.1:{closed_port()}/0")
        client.force_login(staff())
        [(level, text)] = shown_messages(post(client, "visual_search_reindex", products[:3]))
        assert level == "warning"
        assert text.partition(" <a")[0] == (
            "The message broker does not answer. "
            "3 pictures are marked, and the next sweep embeds them (one is due every 1 seconds)."
        )
        assert outcome_in(client, text) == {"waiting": 3}
        assert [status(product).state for product in products] == [State.STALE] * 3 + [State.CURRENT]
        assert indexing.pending(get_field(PRODUCTS)).count() == 3

    @pytest.mark.django_db(transaction=True)
    def test_a_bounded_number_is_sent(self, rf, products, eager):
        result = attempts.embed_again([(get_field(PRODUCTS), [product.pk]) for product in products], most=3)
        request = rf.get("/")
        request._messages = CookieStorage(request)
        attempts.show_resent(request, result)
        (message,) = request._messages
        assert message.level_tag == "success"
        assert "3 pictures were processed" in message.message
        assert "1 picture is marked, and the next sweep embeds it" in message.message
        assert sorted(status(product).state for product in products) == ["current"] * 3 + ["stale"]

    def test_in_a_transaction_it_waits_for_the_commit(self, products, eager, django_capture_on_commit_callbacks):
        field = get_field(PRODUCTS)
        with django_capture_on_commit_callbacks() as callbacks:
            result = attempts.embed_again([(field, [product.pk for product in products])])
        assert (result.pictures, result.sent, len(callbacks)) == (4, 4, 1)
        assert {status(product).state for product in products} == {State.STALE}
        callbacks[0]()
        assert {status(product).state for product in products} == {State.CURRENT}

    @pytest.mark.django_db(transaction=True)
    def test_all_pictures_of_a_product(self, client, eager, monkeypatch):
        monkeypatch.setattr(ArticleAdmin, "actions", ())
        article = Article.objects.create(title="A")
        for seed in range(3):
            ArticleImage.objects.create(article=article, original=picture_file(seed))
        request = RequestFactory().post("/")
        request.user = staff()
        instance = ArticleAdmin(Article, admin.site)
        assert "visual_search_reindex" in instance.get_actions(request)
        instance.visual_search_reindex(request, Article.objects.all())
        assert status(article).counts == {State.CURRENT: 3}


def test_the_search_is_linked(client):
    client.force_login(staff("testshop.view_product"))
    assert reverse("admin:testshop_product_visual_search") in client.get(LIST).content.decode()
    assert "visual-search/" not in client.get(LIST, {"_popup": 1}).content.decode()


def test_the_mixin_comes_first():
    with pytest.raises(TypeError, match="must come before ModelAdmin"):
        type("Last", (admin.ModelAdmin, VisualSearchAdminMixin), {})
    assert type("First", (VisualSearchAdminMixin, admin.ModelAdmin), {})
    assert type("Part", (VisualSearchAdminMixin,), {})
