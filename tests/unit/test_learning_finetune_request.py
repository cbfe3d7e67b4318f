"""The inputs of a fine-tuning: what is refused, what is learned from, and what makes two trainings the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from django_visual_search.extractors.export import Recipe
from django_visual_search.learning.finetune import finetune
from django_visual_search.learning.finetune.options import FinetuneOptions
from django_visual_search.learning.finetune.request import Request
from django_visual_search.learning.splits import Split

RECIPE = Recipe("MobileNetV2", None, None, 64, "avg", None, {})
PICTURES = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
PRODUCTS = ["a", "a", "b", "b", "a", "b", None, ""]
SPLIT = Split("unseen pictures", np.array([0, 1, 2, 3, 6]), np.array([4, 5, 7]), None)


def request_of(**changes):
    values = {"recipe": RECIPE, "pictures": PICTURES, "labels": {"product": PRODUCTS}, "split": SPLIT}
    values |= {"options": FinetuneOptions(), "scenes": None}
    return Request.of(**(values | changes))


def test_classes_are_those_of_pictures_to_learn_from():
    labels = {"product": PRODUCTS, "category": np.array([5, 5, 5, 9, 7, -1, 9, 5])}
    request = request_of(labels=labels)
    assert request.classes[:, 0].tolist() == [0, 0, 1, 1, -1, -1, -1, -1]
    assert request.classes[:, 1].tolist() == [0, 0, 0, 1, -1, -1, 1, -1]
    assert request.counts == (2, 2)
    assert request.arrays["target"].tolist() == [0, 0, 1, 1, 0, 1, -1, -1]
    assert request.arrays["train"].tolist() == [0, 1, 2, 3, 6]
    assert request.notes == ()


def test_pictures_without_any_label_are_left_out_with_a_note():
    request = request_of()
    assert request.arrays["train"].tolist() == [0, 1, 2, 3]
    assert request.notes == ("1 pictures have no label and are not learned from",)


def test_a_label_of_one_value_is_left_out_with_a_note():
    request = request_of(labels={"product": PRODUCTS, "shop": ["here"] * 8})
    assert request.counts == (2,)
    assert any(note.startswith("shop: fewer than two values") for note in request.notes)


def test_a_product_with_one_picture_is_learned_from():
    request = request_of(labels={"product": ["a", "a", "b", "c", "a", "b", "d", "a"]}, split=SPLIT)
    assert request.counts == (4,)
    assert request.arrays["train"].tolist() == [0, 1, 2, 3, 6]


def test_of_too_many_values_the_rarest_are_left_out_with_a_note():
    request = request_of(labels={"product": list("abbbccdd")}, split=None, most_classes=2)
    assert request.counts == (2,)
    assert request.classes[:, 0].tolist() == [-1, 0, 0, 0, 1, 1, -1, -1]
    assert request.arrays["train"].tolist() == [1, 2, 3, 4, 5]
    assert request.notes[0] == "product: 2 values with the fewest pictures are not learned (at most 2)"


def test_without_a_split_all_are_learned_from():
    request = request_of(split=None)
    assert request.arrays["train"].tolist() == [0, 1, 2, 3, 4, 5]
    assert request.arrays["held_out"].size == 0


def test_sizes_follow_from_what_is_exported():
    small = np.zeros((8, 48, 48, 3), np.uint8)
    request = request_of(options=FinetuneOptions(input_size=48), pictures=small)
    assert (request.recipe.input_size, request.options.training_size) == (48, 32)
    assert request_of().options.training_size == 32
    large = np.zeros((8, 224, 224, 3), np.uint8)
    assert request_of(recipe=replace(RECIPE, input_size=224), pictures=large).options.training_size == 160


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": PICTURES.astype(np.float32)}, r"Pictures are uint8 \(n, s, s, 3\), not float32"),
        ({"pictures": PICTURES[:, :, :48]}, r"Pictures are uint8 \(n, s, s, 3\)"),
        ({"options": FinetuneOptions(input_size=96)}, "64² pixels are given for a model that takes 96²"),
        ({"labels": {"product": PRODUCTS[:5]}}, "There are 5 labels 'product' for 8 pictures"),
        ({"labels": {}}, "No label has two values"),
        ({"labels": {"product": ["a"] * 8}}, "No label has two values"),
        ({"options": FinetuneOptions(weights={"brand": 1.0})}, "There is no label brand to weigh"),
        ({"options": FinetuneOptions(weights={"product": -1.0})}, "weight of label 'product' must be 0 or more"),
        ({"split": replace(SPLIT, held_out=np.array([3, 4]))}, "both learned from and held out"),
        ({"split": replace(SPLIT, held_out=np.array([4, 8]))}, "beyond the 8"),
        ({"split": replace(SPLIT, held_out=np.array([], int))}, "needs pictures to learn from and held-out ones"),
        ({"split": replace(SPLIT, held_out=np.array([7]))}, "nothing can be measured"),
        ({"split": replace(SPLIT, task="unseen products", held_out=np.array([4, 5]))}, "nothing can be measured"),
        ({"scenes": np.zeros(3, int)}, "There are 3 scenes for 8 pictures"),
        ({"pictures": "/nowhere/pictures.npy"}, "is not an array of pictures in npy format"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        request_of(**changes)


@pytest.mark.parametrize(
    "options",
    [
        *({name: 0} for name in ("epochs", "batch_size", "measure_every", "patience", "measured", "seconds", "scale")),
        *({name: -0.1} for name in ("learning_rate", "weight_decay", "smoothing", "average", "frozen_stride")),
        *({name: 1.0} for name in ("smoothing", "average")),
        *({name: 16} for name in ("input_size", "training_size")),
        *({"alpha": value} for value in (0, 1.01)),
        {"precision": "float16"},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FinetuneOptions(**options)


def test_finetune_refuses_before_it_writes(tmp_path):
    with pytest.raises(ValueError, match="No label"):
        finetune(RECIPE, PICTURES, {}, SPLIT, folder=tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_the_same_inputs_have_one_digest_however_they_come(tmp_path):
    np.save(tmp_path / "pictures.npy", PICTURES)
    expected = request_of().digest
    assert request_of(pictures=tmp_path / "pictures.npy").digest == expected
    assert request_of(options=FinetuneOptions(seconds=60, input_size=64)).digest == expected
    assert request_of(labels={"product": ["x", "x", "y", "y", "x", "y", None, None]}).digest == expected
    moved = replace(RECIPE, weights="/a", weights_sha256="ab" * 32)
    assert request_of(recipe=moved).digest == request_of(recipe=replace(moved, weights="/b")).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": replace(RECIPE, pooling="max")},
        {"recipe": replace(RECIPE, weights="/a", weights_sha256="ab" * 32)},
        {"pictures": np.where(np.arange(8)[:, None, None, None] == 7, 0, PICTURES).astype(np.uint8)},
        {"labels": {"product": ["a", "b", "b", "b", "a", "b", None, ""]}},
        {"split": replace(SPLIT, held_out=np.array([4, 5]))},
        {"options": FinetuneOptions(seed=1)},
        {"options": FinetuneOptions(views={"flip": False})},
        {"scenes": np.array([0, 0, 1, 1, 2, 2, 3, 3])},
    ],
)
def test_other_inputs_have_another_digest(changes):
    assert request_of(**changes).digest != request_of().digest


def test_pictures_of_a_file_are_not_copied(tmp_path):
    np.save(tmp_path / "pictures.npy", PICTURES)
    for given in (PICTURES, tmp_path / "pictures.npy"):
        with request_of(pictures=given).written(tmp_path / "folder") as files:
            request = json.loads(files.request.read_text())
            assert np.array_equal(np.load(request["pictures"]), PICTURES)
            assert (Path(request["pictures"]) == tmp_path / "pictures.npy") is (given is not PICTURES)
    assert (tmp_path / "pictures.npy").exists()
    assert not list((tmp_path / "folder").rglob("pictures.npy"))
