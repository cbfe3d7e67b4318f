"""``train_embedding``: learns from a shop's pictures, labels and feedback, and keeps what it learned."""

import functools
import io
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.utils import timezone
from PIL import Image

from django_visual_search import search
from django_visual_search.evaluation.catalogue import Catalogue, usual_labels
from django_visual_search.extractors.lite import EfficientNetLiteExtractor
from django_visual_search.fields.registry import get_field
from django_visual_search.learning import folds
from django_visual_search.learning.augment import altered_views
from django_visual_search.learning.folds import held_out
from django_visual_search.management import progress
from django_visual_search.models import EmbeddingHead, Evidence, PictureFeatures
from django_visual_search.spaces.extractors import extractor_of
from django_visual_search.spaces.heads import serving_extractor
from django_visual_search.training import switching
from django_visual_search.training.finetuning import Finetuning
from django_visual_search.training.head import Backbone, plan_for
from django_visual_search.training.supervision import (
    LIKED,
    PRODUCT,
    USUAL_LABELS,
    VIEWS_OF_SINGLE,
    Supervision,
    gather,
    liked_together,
)

from ..conftest import embed_all, picture
from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Category, Product, Spare

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
ARTICLES = "testshop.ArticleImageEmbedding.embedding"
COUNT, EACH = 12, 4
COLOURS = "tests.testshop.extractors.ColourBackbone"
EXTRACTORS = {"default": {"BACKEND": COLOURS}, "tight": {"BACKEND": COLOURS, "OPTIONS": {"shift": 20}}}


def base_picture(seed):
    return Image.open(io.BytesIO(picture(seed, size=96))).convert("RGB")


@functools.cache
def views(seed):
    """JPEGs of several views of a thing."""
    return [as_jpeg(view) for view in altered_views(base_picture(seed), EACH, [seed])]


def as_jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def as_file(image, name):
    return ContentFile(as_jpeg(image), name=name)


@pytest.fixture(autouse=True)
def extractors(settings, monkeypatch):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    monkeypatch.setattr(folds, "MOST_DRAWS", 1)  # so few pictures would be held out five times over


@pytest.fixture
def articles():
    """Articles of two kinds, each with several photos of the same thing."""
    kinds = [Category.objects.create(name=name) for name in ("hats", "shoes")]
    made = []
    for i in range(COUNT):
        article = Article.objects.create(title=str(i), category=kinds[i % 2])
        for n, view in enumerate(views(i)):
            ArticleImage.objects.create(article=article, original=ContentFile(view, name=f"{i}-{n}.jpg"))
        made.append(article)
    return made


def train(*arguments, **options):
    output = io.StringIO()
    call_command("train_embedding", *arguments, stdout=output, stderr=output, **options)
    return output.getvalue()


def kept():
    """Features of the backbones; training also keeps those that it finds scenes by."""
    return PictureFeatures.objects.filter(features_key__startswith="colours-")


def test_a_head_is_learned_measured_and_kept(articles, monkeypatch):
    said = train(ARTICLES)
    [head] = EmbeddingHead.objects.all()
    assert head.state == EmbeddingHead.State.CANDIDATE
    assert head.label == ARTICLES
    assert f"Kept as {head.name} ({head.key}). To let it serve: manage.py switch_embedding {head.name}" in said
    assert f"{COUNT * EACH} pictures" in said
    assert "category: 2 of them on 48 pictures" in said
    tasks = {one["task"]: one for one in head.metrics}
    assert list(tasks) == ["same category of unseen products", "unseen pictures", "unseen products"]
    for one in tasks.values():
        assert 0 < one["held_out"] < COUNT * EACH
        assert set(one["before"]) >= {"R@1", "mAP", "queries"}
    assert head.summary["labels"] == ["category"]
    assert head.baseline_key == extractor_of(get_field(ARTICLES)).spec.key
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    call_command("switch_embedding", head.name, sync=True, force=True, stdout=io.StringIO(), stderr=io.StringIO())
    assert serving_extractor(get_field(ARTICLES)).spec.key == head.key
    hits = search.search_by_image(as_file(base_picture(3), "x.jpg"), ARTICLES, limit=3)
    assert hits[0].product == articles[3]
    assert hits.extractor_key == head.key
    assert_compared_fairly(said, train(ARTICLES, dry_run=True))
    assert "flatters" not in train(ARTICLES, extractor="tight", dry_run=True)


def assert_compared_fairly(first, second):
    """The second training says of what serves what the first said of it: figures of pictures that weren't learned."""
    before = [line.removeprefix("before  ") for line in re.findall("before  .*", second)]
    assert before == [line.removeprefix("after   ") for line in re.findall("after   .*", first)]
    assert "flatters" not in second


def test_a_second_head_is_compared_with_one_like_the_first_that_never_saw_the_held_out_pictures(articles, monkeypatch):
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    first = train(ARTICLES, labels="")
    call_command("switch_embedding", EmbeddingHead.objects.get().name, sync=True, force=True, stdout=io.StringIO())
    assert_compared_fairly(first, train(ARTICLES, labels="category", name="second"))
    # A head without stored settings can't be learned again.
    EmbeddingHead.objects.exclude(name="second").update(summary={})
    assert "that flatters its figures" in train(ARTICLES, name="third", seed=1)
    assert EmbeddingHead.objects.get(name="third").summary["flattered"]


def test_equal_pictures_give_equal_heads(articles):
    train(ARTICLES)
    [head] = EmbeddingHead.objects.all()
    said = train(ARTICLES, name="other")
    assert f"The head equals {head.name}, which is kept already." in said
    assert EmbeddingHead.objects.count() == 1


def test_the_second_head_decodes_nothing(articles, media):
    train(ARTICLES)
    assert kept().count() == COUNT * EACH
    shutil.rmtree(media)
    said = train(ARTICLES, labels="")
    assert f"{COUNT * EACH} pictures\n" in said
    assert "not read" not in said


def test_indexing_and_training_share_features(articles, media):
    train(ARTICLES, dry_run=True)
    kept().delete()
    embed_all(ARTICLES)
    assert kept().count() == COUNT * EACH
    shutil.rmtree(media)
    assert "Kept as" in train(ARTICLES)


def test_a_dry_run_keeps_no_head(articles):
    assert "Dry run" in train(ARTICLES, dry_run=True)
    assert not EmbeddingHead.objects.exists()


def test_every_round_over_the_pictures_reports_its_progress(articles, monkeypatch):
    """The pictures, then the features that scenes are found by; each view of single pictures is one more round."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert train(ARTICLES, dry_run=True).count(f"pictures: {COUNT * EACH}/{COUNT * EACH} ") == 2
    for i in range(COUNT):
        Product.objects.create(name=str(i), image=as_file(base_picture(i), f"{i}.jpg"))
    assert train("testshop.Product", dry_run=True).count(f"pictures: {COUNT}/{COUNT} ") == 1 + VIEWS_OF_SINGLE


def test_products_with_one_picture_are_learned_from_by_views(monkeypatch):
    for i in range(COUNT):
        Product.objects.create(name=str(i), image=as_file(base_picture(i), f"{i}.jpg"))
    said = train("testshop.Product")
    assert f"{COUNT} pictures and {COUNT * VIEWS_OF_SINGLE} altered views of products with one" in said
    [head] = EmbeddingHead.objects.all()
    assert [one["task"] for one in head.metrics] == ["unseen pictures", "unseen products"]
    assert kept().count() == COUNT * (1 + VIEWS_OF_SINGLE)


def test_unreadable_pictures_are_left_out_and_counted(articles, media):
    first = ArticleImage.objects.order_by("pk").first()
    first.original.storage.delete(first.original.name)
    said = train(ARTICLES, dry_run=True)
    assert f"{COUNT * EACH - 1} pictures" in said
    assert "not read: 1: The storage has no such file." in said


def test_products_that_shoppers_liked_together(articles):
    def liked(one, other, gain, exposure=10.0):
        Evidence.objects.create(
            model="testshop.article",
            query_id=str(articles[one].pk),
            object_id=str(articles[other].pk),
            gain=gain,
            exposure=exposure,
            as_of=timezone.now(),
        )

    liked(0, 1, 5.0)
    liked(2, 1, 9.0)
    liked(3, 4, 1.0)  # a slip
    liked(5, 5, 9.0)
    liked(6, 7, 4.0)
    field = get_field(ARTICLES)
    pairs = liked_together(field)
    assert set(pairs) == {str(articles[i].pk) for i in (1, 2, 6, 7)}
    assert pairs[str(articles[1].pk)] == pairs[str(articles[2].pk)] != pairs[str(articles[6].pk)]
    given = gather(field, extractor_of(field), ["category"], most=1000, seed=0, show=lambda done, total: None)
    assert list(given.labels) == [PRODUCT, "category", LIKED]
    together = {product for product, pair in zip(given.labels[PRODUCT], given.labels[LIKED], strict=True) if pair}
    assert together == set(pairs)
    assert "liked together: 2 of them on 16 pictures" in train(ARTICLES, dry_run=True)


def test_no_more_pictures_than_allowed_and_products_whole(articles):
    field = get_field(ARTICLES)
    given = gather(field, extractor_of(field), [], most=4 * EACH, seed=0, show=lambda done, total: None)
    assert np.unique(given.labels[PRODUCT], return_counts=True)[1].tolist() == [EACH] * 4


def test_another_extractor_is_compared_with_what_serves(articles):
    said = train(ARTICLES, extractor="tight")
    [head] = EmbeddingHead.objects.all()
    assert head.extractor == "tight"
    assert head.baseline_key == extractor_of(get_field(ARTICLES)).spec.key
    assert head.features_key in said
    assert kept().values("features_key").distinct().count() == 2


def test_usual_labels():
    assert usual_labels(Product, USUAL_LABELS) == ["category"]
    assert usual_labels(Spare, USUAL_LABELS) == []


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], {}, "Name an embedding field; this project has: testshop.Product"),
        ([ARTICLES], {"labels": "colour"}, "testshop.Article has no 'colour' to learn from. It has: .*category"),
        ([ARTICLES], {"extractor": "x"}, "There is no extractor 'x'"),
        (
            [ARTICLES],
            {"method": "finetune"},
            "Only a network of Keras or EfficientNet-Lite can be fine-tuned; 'default' is a ColourB",
        ),
        (["testshop.Poster"], {}, "testshop.Poster.embedding has no pictures to learn from"),
    ],
)
def test_impossible_trainings_are_refused(articles, arguments, options, message):
    with pytest.raises(CommandError, match=message):
        train(*arguments, **options)


@pytest.mark.parametrize(
    ("category", "message"),
    [
        (lambda i: "thing", "all 12 products have the same value"),
        (lambda i: f"thing {i}", "12 values for 12 products are nearly one each"),
        (lambda i: None, "no product has a value"),
    ],
)
def test_a_label_that_teaches_nothing_is_refused_before_any_picture_is_read(category, message):
    for i in range(COUNT):
        name = category(i)
        own = None if name is None else Category.objects.get_or_create(name=name)[0]
        Product.objects.create(name=str(i), image=as_file(base_picture(i), f"{i}.jpg"), category=own)
    with pytest.raises(CommandError, match=f"Nothing can be learned from 'category': .*{message}.*Leave it out"):
        train("testshop.Product", labels="category")
    assert not kept().exists()
    # A usual label that nobody named is left out.
    assert f"category is left out: {message}" in train("testshop.Product", dry_run=True)


def test_a_table_says_what_its_rows_are_about():
    kinds = [Category.objects.create(name=name) for name in ("hats", "shoes")]
    for i in range(COUNT):
        Product.objects.create(name=str(i), image=as_file(base_picture(i), f"{i}.jpg"), category=kinds[i % 2])
    said = train("testshop.Product", labels="category", name="mine")
    assert "a picture of an unseen product finds the same category" in said
    assert "an altered view of an unseen product finds it" in said
    head = EmbeddingHead.objects.get()
    assert [one["aim"] for one in head.metrics] == [True, False]
    assert set(head.metrics[0]) >= {"before", "untrained", "after", "gain", "learned"}
    why = switching.shortcoming(head.metrics)
    assert (f"The head {why}" if why else "The head is better on held-out pictures.") in said


def figures(recall, precision):
    return {"R@1": recall, "mAP": precision}


@pytest.mark.parametrize(
    ("label", "views", "why"),
    [
        ((0.6, 0.8, 0.1, 0.01), (0.7, 0.69), None),
        ((0.6, 0.8, 0.1, 0.06), (0.7, 0.7), "is not better on held-out pictures, beyond luck (label)"),
        ((0.6, 0.59, 0.1, 0.01), (0.7, 0.7), "is worse on held-out pictures (label): R@1 0.590"),
        ((0.6, 0.8, 0.1, 0.01), (0.7, 0.6), "is worse on held-out pictures (views): R@1 0.600"),
    ],
)
def test_why_a_head_should_not_serve(label, views, why):
    before, after, gain, error = label
    change = {"mean": gain, "error": error}
    metrics = [
        {"task": "label", "aim": True, "after": figures(after, 0.5), "gain": change, "learned": change}
        | dict.fromkeys(("before", "untrained"), figures(before, 0.4)),
        {"task": "views", "aim": False, "after": figures(views[1], 0.1), "gain": change, "learned": change}
        | dict.fromkeys(("before", "untrained"), figures(views[0], 0.4)),
    ]
    found = switching.shortcoming(metrics)
    assert found is None if why is None else found.startswith(why)


def test_a_name_that_is_taken(articles):
    train(ARTICLES, name="mine")
    ArticleImage.objects.order_by("pk").first().delete()
    with pytest.raises(CommandError, match="There is a head 'mine' already: choose another name"):
        train(ARTICLES, name="mine")


def test_an_extractor_without_features(articles, settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": {"BACKEND": "tests.testshop.extractors.ColourExtractor"}}}
    with pytest.raises(CommandError, match="ColourExtractor makes vectors in one step, so no head can be learned"):
        train(ARTICLES)


def test_companions_get_their_vectors_by_the_head(articles, monkeypatch):
    embed_all(ARTICLES)
    train(ARTICLES, name="mine")
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    call_command("switch_embedding", "mine", sync=True, force=True, stdout=io.StringIO(), stderr=io.StringIO())
    head = EmbeddingHead.objects.get()
    keys = {key.partition(":")[0] for key in ArticleImageEmbedding.objects.values_list("embedding_key", flat=True)}
    assert keys == {head.key}
    features = dict(kept().values_list("object_id", "features"))
    extractor = serving_extractor(get_field(ARTICLES))
    for row in ArticleImageEmbedding.objects.all():
        vector = extractor.project(np.frombuffer(bytes(features[str(row.pk)]), "<f2")[None])[0]
        np.testing.assert_allclose(row.embedding, vector, atol=1e-3)


def test_fine_tuning_holds_out_products_of_one_picture_by_their_label(tmp_path, settings):
    lite = {"BACKEND": "django_visual_search.extractors.lite.EfficientNetLiteExtractor"}
    settings.VISUAL_SEARCH = {"EXTRACTORS": {**EXTRACTORS, "lite": lite}}
    field, count, views = get_field("testshop.Product"), 120, 40
    of = np.r_[np.arange(count), np.arange(views)]
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 5, count)
    given = Supervision(
        features=rng.standard_normal((len(of), 1280)).astype(np.float16),
        labels={PRODUCT: [str(i) for i in of], "category": [str(kinds[i]) for i in of]},
        scenes=np.arange(len(of)),
        pictures=of,
        view=np.repeat([-1, 0], [count, views]),
        catalogue=Catalogue([], [], [], {}),
        unread=Counter(),
    )
    plan = plan_for(given, seed=0, dimensions=field.dimensions)
    assert list(plan.aims) == ["category"]
    base = Backbone("lite", EfficientNetLiteExtractor(dimensions=field.dimensions), {})
    work = Finetuning(field, base, given, plan, tmp_path, print, lambda done, total: None)
    split = work._split()
    known, stopping = set(split.train.tolist()), set(split.held_out.tolist())
    measured = set(np.flatnonzero(held_out(given.labels, plan, given.scenes, given.plain)).tolist())
    assert len(stopping) > 5
    assert known.isdisjoint(stopping)
    assert measured.isdisjoint(known | stopping)
    assert len(known | stopping) > 0.65 * count, "pictures that have views are learned from too"
    fold = work._choosing(split)
    assert [(one.label, one.aim) for one in fold.questions] == [("category", True), (PRODUCT, False)]
    assert {int(of[row]) for row in fold.split.held_out} == stopping
    assert any(row >= count for row in fold.split.held_out)
    with pytest.raises(ImproperlyConfigured, match="name --labels"):
        Finetuning(field, base, given, replace(plan, aims=()), tmp_path, print, lambda done, total: None)
