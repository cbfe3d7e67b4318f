"""A real fine-tuning, small: it learns, exports, keeps batch norm, and resumes after SIGKILL to the same end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from django_visual_search import images
from django_visual_search.extractors import ExtractorUnavailable, export, litert
from django_visual_search.learning.finetune import finetune
from django_visual_search.learning.splits import Split

from .. import grocery
from ..finetune_case import PHOTOS, PRODUCTS, SIZE, SMALL, arguments, products, recipe, split
from ..processes import ROOT, until
from .test_extractors_keras import assert_same_features

# Half a minute of processor time each, of cores that others may use too
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

needs_training = pytest.mark.skipif(
    find_spec("tensorflow") is None or not grocery.WEIGHTS.is_file() or not grocery.GROCERY.is_dir(),
    reason="TensorFlow, the weights or the photos are not here",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A file of photos of a few products."""
    own: dict[int, list[grocery.Picture]] = {}
    for photo in grocery.photos():
        own.setdefault(photo.label, []).append(photo)
    most = sorted(own, key=lambda label: -len(own[label]))[:PRODUCTS]
    chosen = [photo for label in most for photo in own[label][:: len(own[label]) // PHOTOS][:PHOTOS]]
    file = tmp_path_factory.mktemp("photos") / "photos.npy"
    np.save(file, np.stack([np.asarray(images.load(photo.read(), size=SIZE)) for photo in chosen]))
    return file


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The result and messages of an uninterrupted fine-tuning, and its folder."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    said: list[str] = []
    return finetune(**arguments(photos, grocery.WEIGHTS), folder=folder, progress=said.append), said, folder


@pytest.fixture(scope="module")
def oracle(run, photos, tmp_path_factory):
    """The same by plain Keras; see finetune_oracle."""
    folder = tmp_path_factory.mktemp("oracle")
    np.save(folder / "some.npy", np.load(photos)[::7])
    (request,) = run[2].glob("*/request.json")
    done = subprocess.run(
        [sys.executable, "-m", "tests.finetune_oracle", request, folder / "found.npz", folder / "some.npy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz")) | {"pictures": np.load(folder / "some.npy")}


def features(tuned, pictures: np.ndarray, folder: Path) -> np.ndarray:
    file = folder / "tuned.tflite"
    file.write_bytes(tuned.flatbuffer)
    return litert.Flatbuffer(file, threads=1)(pictures)


@needs_training
def test_the_loss_falls_and_held_out_photos_are_found_better(run):
    tuned, said, _ = run
    losses = [epoch["loss"] for epoch in tuned.history]
    assert len(losses) == SMALL.epochs
    assert losses[-1] < losses[0] - 0.1
    assert tuned.after["mAP"] > tuned.before["mAP"] + 0.02
    assert tuned.better
    assert tuned.after["mAP"] == max(epoch["mAP"] for epoch in tuned.history)
    assert tuned.history[tuned.best_epoch - 1]["mAP"] == tuned.after["mAP"]
    assert (tuned.stopped, tuned.target, tuned.task) == ("epochs", "product", "unseen pictures")
    [told] = [
        i for i, line in enumerate(said) if line.startswith("5 epochs of ") and "take about 1 minutes here" in line
    ]
    assert told < next(i for i, line in enumerate(said) if line.startswith("epoch 1 of "))
    assert any(line.startswith("epoch 2 of 5: loss ") and "mAP" in line and "left" in line for line in said)
    assert json.loads(json.dumps(tuned.as_dict()))["before"] == tuned.before


@needs_training
def test_the_exported_model_is_the_trained_one(run, oracle, tmp_path):
    tuned = run[0]
    assert (tuned.width, tuned.input_size) == (1280, SIZE)
    assert_same_features(features(tuned, oracle["pictures"], tmp_path), oracle["features"])
    assert tuned.export_cosine > 1 - 1e-4


@needs_training
def test_figures_and_mean_are_those_of_the_exported_model(run, photos, tmp_path):
    tuned = run[0]
    rows = features(tuned, np.load(photos), tmp_path)
    parts = split()
    np.testing.assert_allclose(tuned.mean, rows[parts.train].mean(axis=0), atol=1e-4)
    centred = rows - tuned.mean
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    labels = products()
    r1, average = grocery.picture_precision(
        centred[parts.held_out] @ centred[parts.train].T, labels[parts.train], labels[parts.held_out]
    )
    assert (tuned.after["R@1"], tuned.after["mAP"]) == pytest.approx((r1, average), abs=0.02)


@needs_training
def test_batch_norm_statistics_stay_and_all_other_weights_are_trained(oracle):
    assert len(oracle["fixed"]) > 50
    assert oracle["fixed"].max() == 0
    assert (oracle["learned"] > 0).mean() > 0.95


@needs_training
def test_layers_with_large_maps_stay_as_they_are(oracle):
    every, learned, share, side = oracle["frozen"]
    assert 50 < learned < every
    assert 0.95 < share < 1
    assert side == 64 // 16


@needs_training
def test_views_are_seeded_and_differ_from_their_pictures(oracle):
    pictures = oracle["pictures"].astype(np.float32)
    np.testing.assert_allclose(oracle["unchanged"], pictures, atol=0.05)
    np.testing.assert_array_equal(oracle["one"], oracle["same"])
    assert oracle["one"].shape == pictures.shape
    assert oracle["one"].min() >= 0
    assert oracle["one"].max() <= 255
    assert (np.abs(oracle["one"] - pictures).mean(axis=(1, 2, 3)) > 5).mean() > 0.9
    assert np.abs(oracle["one"] - oracle["other"]).mean() > 5
    # The same picture at another size, not a part of it.
    small = oracle["smaller"].mean(axis=(1, 2))
    np.testing.assert_allclose(small, pictures.mean(axis=(1, 2)), atol=6)


@needs_training
def test_it_stops_early_where_held_out_photos_are_found_worse(photos, oracle, tmp_path):
    """Steps that are far too large spoil the network; the best weights are kept, here the untrained ones."""
    options = replace(SMALL, epochs=9, learning_rate=0.3, patience=2)
    tuned = finetune(**arguments(photos, grocery.WEIGHTS) | {"options": options}, folder=tmp_path)
    assert tuned.stopped == "patience"
    assert [epoch["mAP"] < tuned.before["mAP"] for epoch in tuned.history] == [True, True]
    assert (tuned.best_epoch, tuned.after, tuned.better) == (0, tuned.before, False)
    assert_same_features(features(tuned, oracle["pictures"], tmp_path), oracle["untrained"])


def start(folder: Path, photos: Path) -> subprocess.Popen:
    """The same fine-tuning in a process of its own, which prints what it says."""
    program = ("-m", "tests.finetune_case", photos, grocery.WEIGHTS, folder)
    return subprocess.Popen([sys.executable, *program], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def trainers(folder: Path) -> list[int]:
    """Processes that train in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"learning.finetune" in command and str(folder).encode() in command:
            found.append(int(process.name))
    return found


@needs_training
def test_a_killed_run_leaves_no_process_and_resumes_to_the_same_end(run, photos, tmp_path):
    folder = tmp_path / "killed"
    process = start(folder, photos)
    for line in process.stdout:
        if line.startswith("epoch 2 of"):
            break
    else:
        pytest.fail(f"it ended with code {process.wait()} before its second epoch")
    (child,) = trainers(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    until(lambda: not Path(f"/proc/{child}").exists(), 10, "the end of the process that trains")

    said: list[str] = []
    tuned = finetune(**arguments(photos, grocery.WEIGHTS), folder=folder, progress=said.append)
    assert any(line.startswith("going on after epoch ") for line in said)
    assert not any(line.startswith("epoch 1 of") for line in said)
    assert len(tuned.history) == SMALL.epochs
    whole = run[0]
    assert tuned.before == whole.before
    np.testing.assert_allclose(
        [epoch["loss"] for epoch in tuned.history], [epoch["loss"] for epoch in whole.history], rtol=0.02
    )
    some = np.load(photos)[::7]
    mine, other = (features(one, some, tmp_path) - one.mean for one in (tuned, whole))
    cosines = (mine * other).sum(axis=1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.min() > 0.98
    assert tuned.after["mAP"] == pytest.approx(whole.after["mAP"], abs=0.03)


@needs_training
def test_without_a_split_all_is_learned_and_half_precision_trains_an_exact_model(photos, tmp_path):
    """As on a GPU with bfloat16, on this machine's processor; with a model that sees two views."""
    options = replace(SMALL, epochs=2, precision="bfloat16", weights={"row": 0.5})
    labels = {"product": products(), "row": products() // 4}
    made = replace(recipe(grocery.WEIGHTS), views=("whole", "centre-mirrored"))
    pictures = np.pad(np.load(photos), ((0, 0), (14, 13), (14, 13), (0, 0)), mode="edge")
    tuned = finetune(made, pictures, labels, None, options=options, folder=tmp_path)
    assert tuned.input_size == made.picture_size == pictures.shape[1]
    assert (tuned.before, tuned.after, tuned.better, tuned.task) == (None, None, None, None)
    assert [set(epoch) for epoch in tuned.history] == [{"epoch", "loss", "seconds"}] * 2
    assert tuned.history[1]["loss"] < tuned.history[0]["loss"]
    assert (tuned.best_epoch, tuned.stopped) == (2, "epochs")
    assert tuned.export_cosine > 1 - 1e-4  # exported in single precision
    rows = features(tuned, pictures, tmp_path)
    np.testing.assert_allclose(tuned.mean, rows.mean(axis=0), atol=1e-4)


@needs_training
def test_a_callback_that_raises_ends_the_process(photos, tmp_path):
    def refuse(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(**arguments(photos, grocery.WEIGHTS), folder=tmp_path, progress=refuse)
    assert trainers(tmp_path) == []


def noise(size: int = 32) -> dict:
    """Arguments of a fine-tuning of random weights on noise."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    labels = {"product": [0, 0, 0, 0, 1, 1, 1, 1]}
    parts = Split("unseen pictures", np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7]), None)
    return {"recipe": recipe(None, size), "pictures": pictures, "labels": labels, "split": parts}


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_weights_that_do_not_fit_are_refused_with_the_end_of_the_log(tmp_path):
    weights = tmp_path / "w.weights.h5"
    weights.write_bytes(b"not HDF5")
    broken = noise() | {"recipe": recipe(weights, 32)}
    with pytest.raises(ExtractorUnavailable, match=r"(?s)MobileNetV2 failed: OSError.*log\.txt:.*Traceback"):
        finetune(**broken, folder=tmp_path)


def test_without_tensorflow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ExtractorUnavailable, match=r"Fine-tuning MobileNetV2 needs.*visual-search\[tensorflow\]"):
        finetune(**noise(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_a_process_that_cannot_start_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "interpreter", lambda: "/nowhere/python")
    with pytest.raises(ExtractorUnavailable, match="could not start"):
        finetune(**noise(), folder=tmp_path)
