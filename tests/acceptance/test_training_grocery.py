"""Learning from real photos by the real commands: a head, a switch to it, confidence, and a fine-tuned network."""

import io

import numpy as np
import pytest
from django.core.management import call_command
from PIL import Image

from django_visual_search import search
from django_visual_search.evaluation import OTHER_PICTURES, measure_space
from django_visual_search.fields.registry import get_field
from django_visual_search.learning import confidence
from django_visual_search.models import Artifact, EmbeddingHead
from django_visual_search.spaces.heads import backbone_of, extractor_of_space, serving_extractor
from django_visual_search.spaces.live import live_spaces
from django_visual_search.training import switching

from .. import grocery
from ..conftest import embed_all
from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Category

pytestmark = [
    pytest.mark.skipif(not grocery.GROCERY.is_dir(), reason=f"{grocery.GROCERY} is not here"),
    pytest.mark.django_db,
    pytest.mark.timeout(600),
]

LABEL = "testshop.ArticleImageEmbedding.embedding"


@pytest.fixture(autouse=True)
def network(settings, monkeypatch, tmp_path, db, run_folder):
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    settings.VISUAL_SEARCH = {
        "EXTRACTORS": {"default": grocery.extractor_setting("MobileNetV2")},
        "CACHE_DIR": tmp_path / "cache",
    }
    grocery.put_exported(run_folder)


def fill(media, labels, each):
    """Save products with ``each`` of their photos, evenly spread. Return the other photos by product."""
    media.mkdir(exist_ok=True)
    left = {}
    for label in labels:
        own = [photo for photo in grocery.photos() if photo.label == label]
        category, _ = Category.objects.get_or_create(name="/".join(own[0].name.split("/")[1:3]))
        article = Article.objects.create(title=str(label), category=category)
        places = set(np.linspace(0, len(own) - 1, each).round().astype(int).tolist())
        taken = [photo for i, photo in enumerate(own) if i in places]
        grocery.link_pictures(media, taken)
        ArticleImage.objects.bulk_create(ArticleImage(article=article, original=photo.file_name) for photo in taken)
        left[article.pk] = [photo for i, photo in enumerate(own) if i not in places]
    return left


def run(command, *arguments, **options):
    output = io.StringIO()
    call_command(command, *arguments, stdout=output, stderr=output, **options)
    return output.getvalue()


def jpeg(picture):
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def test_a_head_brings_products_together_and_rejects_what_the_shop_does_not_sell(media):
    left = fill(media, range(0, 80, 2), 14)
    run("train_embedding", LABEL, name="learned")
    head = EmbeddingHead.objects.get()
    for one in head.metrics:
        # Of unseen pictures, those count that are like another product's; its own are never on both sides.
        assert one["leaked"] == 0 or (one["task"] == "unseen pictures" and one["leaked"] < one["held_out"] / 10)
        assert one["after"]["mAP"] > one["before"]["mAP"] + (0.15 if one["task"] == "unseen pictures" else 0.03), one
    run("switch_embedding", "learned", sync=True)
    sure, right = [], 0
    for article, photos in left.items():
        for photo in photos[:4]:
            found = search.search_by_image(photo.read(), LABEL, limit=1)
            if found[0].product.pk == article:
                right += 1
                sure.append(len(search.search_by_queries(found.queries, LABEL, limit=1, min_confidence=0.5)) == 1)
    assert right > 80
    assert np.mean(sure) >= 0.9, "true matches at rank 1 stay"
    # Drawn with another seed than what confidence was learned from
    foreign = [jpeg(picture) for picture in confidence.draw_strangers(40, seed=77)]
    empty = [search.search_by_image(picture, LABEL, min_confidence=0.5).nothing_close for picture in foreign]
    assert np.mean(empty) >= 0.9, "an irrelevant photo gets an empty answer"


def test_a_network_is_fine_tuned_serves_and_is_rolled_back(media):
    fill(media, range(0, 80, 8), 12)
    embed_all(LABEL)
    field = get_field(LABEL)
    before = measure_space(field, serving_extractor(field))[OTHER_PICTURES]
    said = run("train_embedding", LABEL, method="finetune", labels="", epochs=3, once=True, name="tuned")
    head = EmbeddingHead.objects.get()
    assert head.method == EmbeddingHead.Method.FINETUNE
    assert Artifact.objects.get(name=head.backbone["artifact"]) == head.artifact
    assert head.summary["finetuning"]["export_cosine"] > 1 - 1e-4
    assert [one["task"] for one in head.summary["head_alone"]] == [one["task"] for one in head.metrics]
    tuned = head.summary["finetuning"]
    assert len(tuned["history"]) == 3
    assert tuned["after"]["mAP"] >= tuned["before"]["mAP"], "or the network as it was is kept"
    assert "fine-tuned, with a head" in said
    # Moved without a look at the pictures: the network's features were kept.
    ArticleImage.objects.update(display_order=1)
    for file in media.iterdir():
        file.unlink()
    run("switch_embedding", "tuned", force=True, sync=True)
    keys = {key.partition(":")[0] for key in ArticleImageEmbedding.objects.values_list("embedding_key", flat=True)}
    assert keys == {head.key}
    extractor = serving_extractor(field)
    assert extractor.features_key == head.features_key
    tuned = backbone_of(extractor_of_space(field, live_spaces(field).serving), head.backbone, field.dimensions)
    assert tuned.width == 1280 + 1201  # and the looks beside it
    grey = np.asarray(Image.new("RGB", (224, 224), "grey"))[None]
    assert extractor(grey).shape == (1, field.dimensions)
    run("switch_embedding", target=LABEL, rollback=True, sync=True)
    after = {key.partition(":")[0] for key in ArticleImageEmbedding.objects.values_list("embedding_key", flat=True)}
    assert head.key not in after
    assert before.queries == 120


@pytest.mark.slow
def test_one_picture_a_product_is_enough_to_fine_tune_the_default_network(media, settings):
    """Small pictures and few steps: the whole way of the command, by a label, to a head that it can switch to."""
    lite = "django_visual_search.extractors.lite.EfficientNetLiteExtractor"
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "EXTRACTORS": {"default": {"BACKEND": lite, "OPTIONS": {"input_size": 64}}},
    }
    media.mkdir(exist_ok=True)
    for label in range(0, 80, 10):
        kind = Category.objects.create(name=str(label))
        own = [photo for photo in grocery.photos() if photo.label == label][:15]
        grocery.link_pictures(media, own)
        for photo in own:
            article = Article.objects.create(title=photo.file_name, category=kind)
            ArticleImage.objects.create(article=article, original=photo.file_name)
    said = run("train_embedding", LABEL, method="finetune", labels="category", epochs=2, once=True, name="tuned")
    told = said.index("2 epochs of ")
    assert told < said.index("epoch 1 of 2")
    assert "INFO" not in said
    head = EmbeddingHead.objects.get()
    assert head.metrics[0]["task"] == "same category of unseen products"
    assert head.summary["finetuning"]["task"] == "same label"
    assert head.summary["finetuning"]["export_cosine"] > 1 - 1e-4
    run("switch_embedding", "tuned", force=True, sync=True)
    assert serving_extractor(get_field(LABEL)).spec.key == head.key
