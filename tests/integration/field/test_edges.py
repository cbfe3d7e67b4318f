"""Rows 30 and 31: what staff without the right may learn, and small things that were answered badly."""

import datetime

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse

from django_visual_search import feedback, search
from django_visual_search.fields.registry import get_field
from django_visual_search.models import Evidence, IndexingAttempt, RankingRule
from django_visual_search.search.results import read_token

from ...shop_api import make_products, photo
from ...staff import staff
from ...testshop.models import Product

pytestmark = pytest.mark.django_db

RULES = (
    "django_visual_search.add_rankingrule",
    "django_visual_search.change_rankingrule",
    "django_visual_search.view_rankingrule",
)
TITLE = "The secret of next season"
ADD, LIST = (
    reverse("admin:django_visual_search_rankingrule_add"),
    reverse("admin:django_visual_search_rankingrule_changelist"),
)
DIGITS = "9" * 5000


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    product, _ = make_products(2)
    Product.objects.filter(pk=product.pk).update(name=TITLE)
    return product


def choice(product, number=None):
    return f"{number or ContentType.objects.get_for_model(Product).pk}:{product.pk}"


@pytest.fixture
def rules_only(client):
    client.force_login(staff(*RULES))
    return client


def test_row_30_posted_keys_tell_no_titles(rules_only, secret):
    response = rules_only.post(ADD, {"kind": "hide", "object_id": choice(secret), "query_id": choice(secret)})
    assert response.status_code == 200, "refused"
    assert "you may not see it" in response.content.decode()
    assert TITLE not in response.content.decode()


def test_row_30_nor_do_the_rows_of_any_table(client, secret):
    """Rules, attempts and evidence name products; their titles are shown to those who may see the products."""
    kind = ContentType.objects.get_for_model(Product)
    rule = RankingRule.objects.create(kind="hide", content_type=kind, object_id=str(secret.pk))
    lease = {"token": "0" * 32, "leased_until": datetime.datetime.now(datetime.UTC)}
    key = f"x:{secret.image.name}"
    IndexingAttempt.objects.create(
        label="testshop.Product.embedding", object_id=str(secret.pk), key=key, state="refused", **lease
    )
    as_of = datetime.datetime.now(datetime.UTC)
    Evidence.objects.create(
        model="testshop.Product", query_id="", object_id=str(secret.pk), gain=1, exposure=1, as_of=as_of
    )
    pages = [
        LIST,
        reverse("admin:django_visual_search_rankingrule_change", args=[rule.pk]),
        reverse("admin:django_visual_search_indexingattempt_changelist"),
        reverse("admin:django_visual_search_evidence_changelist"),
    ]
    views = [f"django_visual_search.view_{name}" for name in ("indexingattempt", "evidence")]
    for more, shown in ((), False), (("testshop.view_product",), True):
        client.force_login(staff(*RULES, *views, *more))
        for page in pages:
            assert (TITLE in client.get(page).content.decode()) == shown, page


def test_row_30_the_shops_own_admin_is_asked_for_each_product(client, secret, monkeypatch):
    """One that shows each member of staff other products."""
    model_admin = admin.site.get_model_admin(Product)
    everything = type(model_admin).get_queryset
    monkeypatch.setattr(
        type(model_admin), "get_queryset", lambda self, request: everything(self, request).exclude(pk=secret.pk)
    )
    kind = ContentType.objects.get_for_model(Product)
    RankingRule.objects.create(kind="hide", content_type=kind, object_id=str(secret.pk))
    client.force_login(staff(*RULES, "testshop.view_product"))
    assert TITLE not in client.get(LIST).content.decode()


def test_row_30_thousands_of_digits(rules_only, secret):
    for url, status in (
        (reverse("admin:django_visual_search_rankingrule_products") + f"?page={DIGITS}", 400),
        (reverse("admin:django_visual_search_rankingrule_products") + "?page=x", 400),
        (reverse("admin:django_visual_search_rankingrule_products") + "?page=2", 200),
        (f"/api/products/{DIGITS}/similar/", 404),
        (f"/api/products/?limit={DIGITS}", 200),
        (f"/api/products/{secret.pk}/similar/?limit={DIGITS}", 400),
    ):
        assert rules_only.get(url).status_code == status, url[:60]
    for keys in ({"object_id": choice(secret, DIGITS)}, {"object_id": f"{choice(secret).partition(':')[0]}:{DIGITS}"}):
        response = rules_only.post(ADD, {"kind": "hide", **keys})
        assert response.status_code == 200
        assert "does not exist" in response.content.decode()


def test_row_31_the_throttle_counts_a_whole_network_of_ipv6(client, settings):
    cache.clear()
    make_products(1)
    settings.VISUAL_SEARCH = settings.VISUAL_SEARCH | {"THROTTLE_RATES": {"photo": "2/min"}}
    found = [
        client.post(
            "/api/products/search-by-image/", {"image": photo()}, REMOTE_ADDR=f"2a00:1450:4001:{n}::1"
        ).status_code
        for n in range(3)
    ]
    assert found == [200, 200, 429]
    assert (
        client.post("/api/products/search-by-image/", {"image": photo()}, REMOTE_ADDR="2a00:1450:4002::1").status_code
        == 200
    )


def test_row_31_a_token_from_the_future_is_refused(monkeypatch, rf):
    product, _ = make_products(2)
    results = search.similar_to(product)
    assert read_token(results.token).places
    with monkeypatch.context() as later:
        stamp = signing.b62_encode(int(signing.time.time()) + 30 * 24 * 3600)
        later.setattr(signing.TimestampSigner, "timestamp", lambda self: stamp)
        token = search.similar_to(product).token
    with pytest.raises(signing.BadSignature):
        read_token(token)
    with pytest.raises(feedback.BadToken):
        feedback.report(rf.get("/"), token, [("click", str(results[0].product.pk))])


COMMANDS = [
    ["switch_embedding", "default", "testshop.Product.embedding"],
    ["switch_embedding", "--rollback", "testshop.Product.embedding"],
    ["train_embedding", "testshop.Product.embedding"],
    ["evaluate_search", "testshop.Product.embedding"],
    ["findability_report", "testshop.Product.embedding"],
    ["reindex_embeddings", "testshop.Product.embedding", "--sync"],
    ["aggregate_feedback"],
    ["purge_feedback"],
    ["erase_feedback", "--user", "1"],
    ["export_feedback", "--user", "1"],
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
def test_row_31_a_lost_database_is_a_sentence(arguments):
    """The server ends the command's connection, as at its restart."""
    assert get_field("testshop.Product.embedding")
    with connection.cursor() as cursor:
        cursor.execute("SET idle_session_timeout = '10ms'")
    signing.time.sleep(0.1)
    with pytest.raises(CommandError, match="The database went away"):
        call_command(*arguments)
    connection.close()
