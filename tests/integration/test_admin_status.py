"""The status of products in the admin: every state with its reason, one query per field, and a matching filter."""

import uuid

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from django_visual_search.admin.status_column import badge
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing.status import ProductStatus, State, in_state, statuses
from django_visual_search.models import IndexingAttempt
from django_visual_search.spaces.heads import serving_embedding_key
from django_visual_search.spaces.live import live_spaces

from ..conftest import embed_all, picture_file
from ..testshop.models import (
    Article,
    ArticleImage,
    ArticleImageEmbedding,
    Poster,
    Product,
    PublishedProduct,
    Shoe,
    Spare,
    Story,
    StoryImage,
)

pytestmark = pytest.mark.django_db

PRODUCTS = "testshop.Product.embedding"
PICTURES = "testshop.ArticleImageEmbedding.embedding"


def attempt(label, row, image, state, message="why", **values):
    """Create an attempt at the picture's vector."""
    return IndexingAttempt.objects.create(
        label=label,
        object_id=str(row.pk),
        key=serving_embedding_key(get_field(label), image.name),
        token=uuid.uuid4(),
        state=state,
        message=message,
        leased_until=timezone.now(),
        **values,
    )


def status(product):
    return statuses(type(product), [product.pk])[product.pk]


@pytest.fixture
def product():
    made = Product.objects.create(name="A", image=picture_file(1))
    embed_all()
    return made


class TestStates:
    def test_current(self, product):
        assert status(product).state == State.CURRENT
        assert status(product).reason == ""

    def test_missing(self):
        product = Product.objects.create(name="A", image=picture_file(1))
        assert status(product).state == State.MISSING
        assert status(product).reason == "It waits to be embedded."

    def test_without_a_picture(self):
        product = Product.objects.create(name="A")
        assert status(product).state == State.MISSING
        assert status(product).reason == "There is no picture."
        assert status(product).pictures == 0

    def test_stale_for_a_new_picture(self, product):
        Product.objects.filter(pk=product.pk).update(image="products/other.jpg")
        assert status(product).state == State.STALE
        assert status(product).reason == "The picture was replaced, or is to be embedded again."

    def test_stale_for_another_extractor(self, product):
        Product.objects.filter(pk=product.pk).update(embedding_key=f"other:{product.image.name}")
        assert status(product).state == State.STALE
        assert "another extractor" in status(product).reason

    def test_stale_for_a_removed_picture(self, product):
        Product.objects.filter(pk=product.pk).update(image="")
        assert status(product).state == State.STALE
        assert "removed" in status(product).reason

    @pytest.mark.parametrize("state", [State.REFUSED, State.QUARANTINED])
    @pytest.mark.parametrize("embedded", [True, False])
    def test_settled(self, product, state, embedded):
        if embedded:  # by an older picture
            Product.objects.filter(pk=product.pk).update(image="products/other.jpg")
            product.refresh_from_db()
        else:
            Product.objects.filter(pk=product.pk).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, product, product.image, state, "The picture is broken.", code="corrupt")
        assert status(product).state == state
        assert status(product).reason == "The picture is broken."

    def test_really_refused(self):
        product = Product.objects.create(name="A", image=picture_file(1))
        with open(product.image.path, "wb") as file:
            file.write(b"no picture")
        assert embed_all().refused == 1
        assert status(product).state == State.REFUSED
        assert status(product).reason == IndexingAttempt.objects.get().message

    def test_an_attempt_at_an_older_picture_does_not_count(self, product):
        attempt(PRODUCTS, product, product.image, State.REFUSED)
        Product.objects.filter(pk=product.pk).update(image="products/other.jpg")
        assert status(product).state == State.STALE

    def test_an_attempt_at_a_current_picture_does_not_count(self, product):
        attempt(PRODUCTS, product, product.image, State.REFUSED)
        assert status(product).state == State.CURRENT

    def test_an_attempt_of_another_field_does_not_count(self, product):
        Product.objects.filter(pk=product.pk).update(embedding=None, embedding_key=None)
        attempt(PRODUCTS, product, product.image, State.REFUSED)
        IndexingAttempt.objects.update(label="testshop.Poster.embedding")
        assert status(product).state == State.MISSING

    def test_running_and_failed(self):
        product = Product.objects.create(name="A", image=picture_file(1))
        tried = attempt(PRODUCTS, product, product.image, "running", "")
        assert (status(product).state, status(product).reason) == (State.MISSING, "It is being embedded now.")
        IndexingAttempt.objects.filter(pk=tried.pk).update(state="failed", message="No space left.")
        assert status(product).state == State.MISSING
        assert status(product).reason == "The last attempt failed and will be repeated: No space left."


class TestSeveralPictures:
    @pytest.fixture
    def article(self):
        article = Article.objects.create(title="A")
        for seed in range(4):
            ArticleImage.objects.create(article=article, original=picture_file(seed))
        embed_all(PICTURES)
        return article

    def test_all_current(self, article):
        assert status(article).state == State.CURRENT
        assert status(article).counts == {State.CURRENT: 4}
        assert "of" not in badge(status(article)).split(">")[1]

    def test_the_worst_counts(self, article):
        first, second, third, _ = ArticleImage.objects.order_by("pk")
        ArticleImageEmbedding.objects.filter(image=first).delete()
        assert status(article).state == State.MISSING
        ArticleImageEmbedding.objects.filter(image=second).update(embedding_key="other:x")
        assert status(article).state == State.MISSING
        ArticleImageEmbedding.objects.filter(image=third).delete()
        attempt(PICTURES, third, third.original, State.REFUSED, "Broken.")
        assert status(article).state == State.REFUSED
        assert status(article).reason == "Broken."
        assert status(article).counts == {State.CURRENT: 1, State.STALE: 1, State.MISSING: 1, State.REFUSED: 1}
        assert "refused, 1 of 4" in badge(status(article))
        attempt(PICTURES, second, second.original, State.QUARANTINED, "Killed.")
        assert status(article).state == State.QUARANTINED

    def test_without_pictures(self):
        assert status(Article.objects.create(title="A")).reason == "There is no picture."

    def test_each_article_has_its_own(self, article):
        other = Article.objects.create(title="B")
        ArticleImage.objects.create(article=other, original=picture_file(9))
        found = statuses(Article, [article.pk, other.pk])
        assert found[article.pk].state == State.CURRENT
        assert found[other.pk].state == State.MISSING

    def test_pictures_that_are_cleared_do_not_count(self, article):
        first = ArticleImage.objects.order_by("pk").first()
        ArticleImageEmbedding.objects.filter(image=first).delete()
        ArticleImage.objects.filter(pk=first.pk).update(original="")
        assert status(article).counts == {State.CURRENT: 3}


class TestShapes:
    """Proxies, children, other primary keys, a foreign key to another column."""

    def test_proxy(self, product):
        assert statuses(PublishedProduct, [product.pk])[product.pk].state == State.CURRENT

    @pytest.mark.parametrize(
        ("make", "label"),
        [
            (lambda: Poster.objects.create(image=picture_file(1)), "testshop.Poster.embedding"),
            (lambda: Spare.objects.create(sku="a'b\"c", image=picture_file(1)), "testshop.Spare.embedding"),
            (lambda: Shoe.objects.create(name="A", image=picture_file(1)), "testshop.Shoe.embedding"),
        ],
    )
    def test_primary_keys(self, make, label):
        row = make()
        assert status(row).state == State.MISSING
        attempt(label, row, row.image, State.REFUSED)
        assert status(row).state == State.REFUSED
        IndexingAttempt.objects.all().delete()
        embed_all(label)
        assert status(row).state == State.CURRENT
        assert in_state(type(row).objects.all(), State.CURRENT).get() == row

    def test_foreign_key_to_another_column(self):
        story = Story.objects.create(code="x")
        image = StoryImage.objects.create(story=story, original=picture_file(1))
        assert status(story).state == State.MISSING
        embed_all("testshop.StoryImageEmbedding.embedding")
        assert status(story).state == State.CURRENT
        StoryImage.objects.filter(pk=image.pk).update(story=None)
        assert status(story).reason == "There is no picture."


@pytest.mark.django_db(transaction=True)  # elsewhere, nothing is remembered
def test_one_query_for_a_page(django_assert_num_queries):
    for seed in range(20):
        Product.objects.create(name=str(seed), image=picture_file(seed) if seed % 3 else "")
    keys = list(Product.objects.values_list("pk", flat=True))
    live_spaces(get_field(PRODUCTS))  # cached for a while
    with django_assert_num_queries(1):
        found = statuses(Product, keys)
    with django_assert_num_queries(0):
        assert statuses(Product, []) == {}
    assert sum(1 for status in found.values() if status.pictures) == 13


@pytest.mark.parametrize("model", [Product, Article])
def test_the_filter_agrees_with_the_column(model):
    """Every product is in the list of its own status only."""
    label = PRODUCTS if model is Product else PICTURES
    key = serving_embedding_key(get_field(label), "")
    rows = []
    for n, states in enumerate(
        [[], [None], ["current"], ["stale"], ["missing"], ["refused"], ["quarantined"], ["removed"]]
        + (
            [
                ["current", "stale"],
                ["refused", "quarantined"],
                ["current", None],
                ["missing", "refused"],
                ["stale", "missing"],
            ]
            if model is Article
            else []
        )
    ):
        owner = Product(name=str(n)) if model is Product else Article.objects.create(title=str(n))
        for i, state in enumerate(states):
            name = "" if state in (None, "removed") else f"p/{n}-{i}.jpg"
            vector = {"current": key + name, "stale": "other:x", "removed": key + "x"}.get(state)
            values = {"embedding": [1.0] * 48, "embedding_key": vector} if vector else {}
            if model is Product:
                owner = Product(name=str(n), image=name, **values)
                owner.save()
                row = owner
            else:
                row = ArticleImage.objects.create(article=owner, original=name)
                if values:
                    ArticleImageEmbedding.objects.create(image=row, **values)
            if state in ("refused", "quarantined"):
                IndexingAttempt.objects.create(
                    label=label,
                    object_id=str(row.pk),
                    key=key + name,
                    token=uuid.uuid4(),
                    state=state,
                    leased_until=timezone.now(),
                )
        if owner.pk is None:
            owner.save()
        rows.append(owner.pk)
    found = statuses(model, rows)
    assert {found[pk].state for pk in rows} == set(State)
    listed = {state: set(in_state(model.objects.all(), state).values_list("pk", flat=True)) for state in State}
    assert listed == {state: {pk for pk in rows if found[pk].state == state} for state in State}


def test_a_misconfigured_extractor_leaves_the_list_usable(product, settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": {"BACKEND": "no.such.Extractor"}}}
    with pytest.raises(ImproperlyConfigured):
        serving_embedding_key(get_field(PRODUCTS), "x")
    assert "EXTRACTORS" in status(product).reason


def test_names_and_reasons_are_escaped():
    broken = ProductStatus()
    broken.counts[State.REFUSED] = 1
    broken.reasons[State.REFUSED] = '"><script>alert(1)</script>'
    assert badge(broken).count("&quot;&gt;&lt;script&gt;") == 3  # two tooltips and the text
    assert "<script" not in badge(broken)
