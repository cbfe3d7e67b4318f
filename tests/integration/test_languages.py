"""Every page of the app in languages of other scripts: no word of ours is left in English."""

import uuid
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone, translation
from django.utils.text import capfirst

from django_visual_search import findability
from django_visual_search.fields.registry import get_field
from django_visual_search.images import ImageOptions
from django_visual_search.models import (
    EmbeddingBatch,
    EmbeddingHead,
    Evidence,
    Feedback,
    IndexingAttempt,
    IndexingRun,
    RankingRule,
    SearchLog,
    ServingSpace,
)
from django_visual_search.storefront import gate

from ..conftest import embed_all, picture, picture_file
from ..heads import EXTRACTORS, make_head
from ..staff import staff
from ..testshop.models import Product
from ..translations import DJANGOS_OWN, latin_words, visible_texts
from .test_admin_findability import sent, use_broker  # noqa: F401
from .test_admin_status import PRODUCTS, attempt

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

ADMIN = "/admin/django_visual_search/"
PHOTO = "/visual-search/photo/testshop/product/"
SHOP_ADMIN = "/admin/testshop/product/"

SHOPS_OWN = [
    *("default", "Price", "Loud name", "Category", "Orders <none>", "Coupon & more", "Name", "Image", "Is published"),
    *("corrupt", "storage", "worker_lost", "classic"),  # codes and aliases, for programs
    *(
        word
        for model in apps.get_app_config("testshop").get_models()
        for name in (model._meta.verbose_name, model._meta.verbose_name_plural)
        for word in (str(name), capfirst(str(name)))
    ),
]

LANGUAGES = {"ar": ("ar", "rtl"), "zh-hans": ("zh_Hans", "ltr")}


@pytest.fixture(params=LANGUAGES)
def language(request):
    with translation.override(request.param):
        yield request.param


@pytest.fixture
def shop(settings, monkeypatch, small_photos):
    """A shop with something to say on every page; products are named by numbers."""
    cache.clear()
    extractors = {**settings.VISUAL_SEARCH["EXTRACTORS"], "classic": EXTRACTORS["default"]}
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXTRACTORS": extractors}
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    for name in ("verbose_name", "verbose_name_plural"):
        monkeypatch.setattr(Product._meta, name, "商品")
    bare = Product.objects.create(name="0")
    products = [Product.objects.create(name=f"{n}", image=picture_file(n)) for n in range(1, 6)]
    products.append(Product.objects.create(name="7", image=picture_file(5, "5b.jpg")))
    embed_all()
    findability.check(get_field(PRODUCTS), seed=0)
    gone = [product.pk for product in products[:3]]
    Product.objects.filter(pk__in=gone).update(embedding=None, embedding_key=None)
    for product, state, code, message in zip(
        products,
        ("refused", "quarantined", "failed"),
        ("corrupt", "worker_lost", "storage"),
        ("The picture is truncated or broken. Save or photograph it again.", "Each of 3 ended.", "It is on fire."),
        strict=False,
    ):
        attempt(PRODUCTS, product, product.image, state, message, code=code)
    now, kind = timezone.now(), ContentType.objects.get_for_model(Product)
    for event in Feedback.Kind:
        Feedback.objects.create(
            kind=event,
            created_at=now,
            content_type=kind,
            object_id=str(bare.pk),
            query_kind="photo",
            rank=1,
            digest=uuid.uuid4().hex,
        )
    SearchLog.objects.create(created_at=now, label=PRODUCTS, kind="photo", results=5, exact=True, milliseconds=1.5)
    Evidence.objects.create(model="testshop.product", object_id=str(bare.pk), gain=1, as_of=now)
    rule = {"content_type": kind, "object_id": str(products[3].pk)}
    for values in ({"kind": "pin", "slot": 1, "starts_at": now}, {"kind": "boost", "ends_at": now}, {"kind": "hide"}):
        RankingRule.objects.create(**rule, **values)
    for run, values in (("sweep", {"finished_at": now}), ("command", {"total": 100})):
        times = {"started_at": now - timezone.timedelta(seconds=60), "updated_at": now}
        IndexingRun.objects.update_or_create({"done": 50, "failed": 1, **times, **values}, label=PRODUCTS, kind=run)
    head = make_head("1", alias="classic")
    head.metrics[0]["about"] = "an altered view of an unseen product finds it"
    head.save()
    return products


def english(response, language):
    """Return what the page says in English; assert that it says which language it is in."""
    page = response.content.decode()
    tag, direction = LANGUAGES[language]
    assert f'lang="{language}"' in page
    assert f'dir="{direction}"' in page
    own = page.partition('id="content"')[2] or page  # the rest of the admin is Django's and the test shop's
    return latin_words(visible_texts("<div " + own), tag, [*DJANGOS_OWN, *SHOPS_OWN])


def send(client, data, address=PHOTO, name="image", file="1.jpg"):
    return client.post(address, {name: SimpleUploadedFile(file, data)})


def test_names_of_models(language):
    models = apps.get_app_config("django_visual_search").get_models()
    names = [name for model in models for name in (model._meta.verbose_name, model._meta.verbose_name_plural)]
    assert not latin_words(map(str, names), LANGUAGES[language][0])


def test_shop_pages(client, shop, language, monkeypatch):
    pages = [
        (200, client.get(PHOTO)),
        (200, send(client, picture(4))),
        (422, client.post(PHOTO)),
        (422, send(client, b"none")),
        (422, send(client, b"")),
        (422, send(client, picture(1)[:500])),
    ]
    longest = ImageOptions().max_bytes
    pages.append((413, client.generic("POST", PHOTO, bytes(2 * longest), "multipart/form-data; boundary=b")))
    monkeypatch.setattr(gate, "WAITING", 0)
    monkeypatch.setattr(gate.Gate, "_is_full", lambda self: True)
    pages.append((503, send(client, picture(4))))
    assert [status for status, _ in pages] == [page.status_code for _, page in pages]
    assert [english(page, language) for _, page in pages] == [[]] * len(pages)


SPACES = [f"{ADMIN}embeddinghead/{page}/{PRODUCTS}/" for page in ("roll-back", "switching")]


def preview(shop, product=None, query=None, **fields):
    """Return the URL of a rule's form, filled in, which shows what the rule does."""
    kind = ContentType.objects.get_for_model(Product).pk
    fields["object_id"] = f"{kind}:{(product or shop[4]).pk}"
    fields |= {"query_id": f"{kind}:{query.pk}"} if query else {}
    return f"{ADMIN}rankingrule/add/?{urlencode({'slot': 2, 'factor': 1.5, **fields})}"


def batches(shop):
    """Yield the URLs of actions: one that goes on, with a picture of each state and more than are listed; one over."""
    for products, beyond in ((shop, 2), (shop[3:], 0)):
        keys = {PRODUCTS: [str(product.pk) for product in products]}
        batch = EmbeddingBatch.objects.create(created_at=timezone.now(), pictures=keys, beyond=beyond)
        yield f"{ADMIN}indexingattempt/batch/{batch.pk}/"


def test_pages_of_a_switch(shop, language, sent):  # noqa: F811
    """From the button to the roll back: each page, and what the messages say. No worker takes the task."""
    head, client = EmbeddingHead.objects.get(), Client()
    client.force_login(staff())
    switch = f"{ADMIN}embeddinghead/{head.pk}/switch/"
    pages = {"better": client.get(f"{ADMIN}dashboard/"), "begun": client.post(switch, {"force": "1"}, follow=True)}
    pages["dashboard"] = client.get(f"{ADMIN}dashboard/")
    space = ServingSpace.objects.get()
    space.effective_at = timezone.now() - timezone.timedelta(seconds=60)
    space.save()
    pages |= {"moving": client.get(SPACES[1]), "refused": client.post(switch, {"force": "1"}, follow=True)}
    space.finished_at = timezone.now()
    space.save()
    pages |= {"over": client.get(SPACES[1]), "asked": client.get(SPACES[0])}
    pages["back"] = client.post(SPACES[0], follow=True)
    assert {name: page.status_code for name, page in pages.items() if page.status_code != 200} == {}
    left = {name: found for name, page in pages.items() if (found := english(page, language))}
    assert not left


def test_admin_pages(shop, language):
    client = Client()
    client.force_login(staff())
    addresses = [
        *(f"{ADMIN}dashboard/", f"{ADMIN}findability/?model=testshop.Product"),
        *(f"{ADMIN}findability/?model=testshop.Product&reason={reason.value}" for reason in findability.Reason),
        *(f"{ADMIN}{table}/" for table in ("feedback", "searchlog", "evidence", "rankingrule", "indexingattempt")),
        *(f"{ADMIN}embeddinghead/", f"{ADMIN}rankingrule/add/"),
        *(
            f"{ADMIN}{model._meta.model_name}/{row.pk}/change/"
            for model in (EmbeddingHead, Evidence, Feedback, IndexingAttempt, RankingRule, SearchLog)
            for row in model.objects.all()
        ),
        *(SHOP_ADMIN, f"{SHOP_ADMIN}visual-search/", f"{SHOP_ADMIN}visual-search/?product={shop[4].pk}"),
        f"{SHOP_ADMIN}{shop[4].pk}/change/",
        f"{ADMIN}findability/pair/?model=testshop.Product&product={shop[4].pk}&other={shop[5].pk}",
        *(preview(shop, kind=kind) for kind in RankingRule.Kind),
        preview(shop, kind="pin", slot=1, query=shop[3]),
        preview(shop, kind="hide", product=shop[0]),  # without a vector, so without a search to show
        *(f"{ADMIN}embeddinghead/{EmbeddingHead.objects.get().pk}/switch/", *SPACES),
        *batches(shop),
    ]
    left = {}
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200, address
        if found := english(response, language):
            left[address] = found
    found = english(send(client, picture(4), f"{SHOP_ADMIN}visual-search/", "photo"), language)
    left |= {"photo": found} if found else {}
    assert not left, "\n".join(f"{address}: {texts}" for address, texts in left.items())
