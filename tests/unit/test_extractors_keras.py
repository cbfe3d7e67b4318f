from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings

from django_visual_search import images
from django_visual_search.extractors import DirectoryStore, ExtractorUnavailable, export
from django_visual_search.extractors.keras import APPLICATIONS, KerasExtractor

GROCERY = settings.SHARED / "data" / "grocery"
WEIGHTS = settings.SHARED / "weights" / "keras" / "models"
pytestmark = pytest.mark.slow
SHA = "ab" * 32
RANDOM = {"application": "MobileNetV3Small", "weights": None, "input_size": 32, "looks": 0}

needs_tensorflow = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"{WEIGHTS} is not here")
needs_photos = pytest.mark.skipif(not GROCERY.is_dir(), reason=f"{GROCERY} is not here")


def noise(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def photos(n: int, size: int) -> np.ndarray:
    """``n`` grocery photos of different products."""
    lines = (GROCERY / "train.txt").read_text().splitlines()
    paths = [line.split(", ")[0] for line in lines[:: len(lines) // n]][:n]
    return np.stack([np.asarray(images.load((GROCERY / path).read_bytes(), size=size)) for path in paths])


def run(script: str, *arguments: object) -> str:
    """What the script prints in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min())


def assert_same_features(actual: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-4 cosine (DESIGN §2), and so after what all photos have in common is taken away."""
    assert actual.shape == expected.shape
    assert least_cosine(actual, expected) > 1 - 1e-4
    assert least_cosine(actual - actual.mean(axis=0), expected - expected.mean(axis=0)) > 1 - 1e-4


@pytest.fixture(scope="module")
def keras_home(tmp_path_factory):
    """A KERAS_HOME that Keras may write its keras.json to, with the shared weights."""
    home = tmp_path_factory.mktemp("keras")
    (home / "models").symlink_to(WEIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return DirectoryStore(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def random_store(store):
    """A store with the exported model of RANDOM, made by a process that reports what it imported."""
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    script = (
        "import json, sys, numpy\nfrom django_visual_search.extractors import DirectoryStore\n"
        "from django_visual_search.extractors.keras import KerasExtractor\n"
        "extractor = KerasExtractor(**json.loads(sys.argv[1]), artifacts=DirectoryStore(sys.argv[2]))\n"
        "assert extractor(numpy.zeros((1, 32, 32, 3), numpy.uint8)).shape == (1, 576)\n"
        "print(sorted({'tensorflow', 'keras', 'django', 'scipy'} & sys.modules.keys()))"
    )
    assert run(script, json.dumps(RANDOM), store.directory) == "[]"
    return store


@pytest.fixture(scope="module")
def mobilenet(store, keras_home):
    """MobileNetV2-0.35 with ImageNet weights."""
    return KerasExtractor(**SMALL, dimensions=256, artifacts=store)


ORACLE = {
    "MobileNetV2": ("mobilenet_v2", {"alpha": 0.35}, 224),
    "VGG16": ("vgg16", {}, 64),
    "MobileNetV3Small": ("mobilenet_v3", {}, 64),
}
"""Application -> its module, arguments and input size."""

SMALL = {"application": "MobileNetV2", "application_kwargs": {"alpha": 0.35}}
VIEWS = KerasExtractor(**SMALL, views=("centre-mirrored", "whole"))
QUANTISED = KerasExtractor(**SMALL, quantise="dynamic", dimensions=256)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory, keras_home, store):
    """Pictures, their features by plain Keras, and the file of its weights, for an application of ORACLE.

    MobileNetV2 has ImageNet weights; the others have random ones, which plain Keras saves. The same process exports
    models: those of the others beside their weights, as ``.tflite``, and VIEWS and QUANTISED to ``store``.
    """
    folder, requests, exports = tmp_path_factory.mktemp("oracle"), [], {}
    for application, (module, kwargs, size) in ORACLE.items():
        path = str(folder / application)
        np.save(f"{path}-photos.npy", photos(24, size))
        requests.append({"application": application, "module": module, "kwargs": kwargs, "input_size": size})
        requests[-1] |= {"photos": f"{path}-photos.npy", "features": f"{path}-features.npy", "pooling": "avg"}
        saved = None if application == "MobileNetV2" else f"{path}.weights.h5"
        requests[-1] |= {"weights": None if saved else "imagenet", "save_weights": saved}
        if saved:
            exports[f"{path}.tflite"] = asdict(KerasExtractor(application, saved, SHA, size).recipe)
    for extractor in (VIEWS, QUANTISED):
        exports[str(folder / extractor.artifact)] = asdict(extractor.recipe)
    result = subprocess.run(
        [sys.executable, "-m", "tests.keras_oracle"],
        input=json.dumps({"features": requests, "exports": exports}),
        env=export.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for extractor in (VIEWS, QUANTISED):
        store.put(extractor.artifact, (folder / extractor.artifact).read_bytes())
        extractor.artifacts = store

    def answer(application: str) -> tuple[np.ndarray, np.ndarray, Path]:
        pictures, features = (np.load(folder / f"{application}-{name}.npy") for name in ("photos", "features"))
        return pictures, features, folder / f"{application}.weights.h5"

    return answer


# Keys, names and refusals: no runtime needed


def test_spec_is_read_without_any_runtime_or_weights(tmp_path):
    options = {"application": "VGG16", "weights": "/nowhere/w.h5", "weights_sha256": SHA, "dimensions": 64}
    script = (
        "import json, sys\nfrom django_visual_search.extractors.keras import KerasExtractor\n"
        "extractor = KerasExtractor(**json.loads(sys.argv[1]))\nextractor.missing()\nprint(extractor.spec.key)\n"
        "print(sorted({'tensorflow', 'keras', 'ai_edge_litert', 'django', 'scipy'} & sys.modules.keys()))"
    )
    assert run(script, json.dumps(options)).split("\n") == [KerasExtractor(**options).spec.key, "[]"]


def test_default_is_efficientnet_with_imagenet_weights():
    spec = KerasExtractor().spec
    assert spec.key.startswith("keras-efficientnetv2b0-2481-")
    assert (spec.dimensions, spec.input_size) == (2481, 224)
    # As before there were looks: nobody's vectors become stale by the option that leaves them out.
    assert KerasExtractor(looks=0).spec.key == "keras-efficientnetv2b0-1280-37283544a11d"


@pytest.mark.parametrize(
    "options",
    [
        {"application": "MobileNet"},
        {"application_kwargs": {"alpha": 0.35}},
        {"weights": None},
        {"weights": "w.h5", "weights_sha256": SHA},
        {"weights": "w.h5", "weights_sha256": SHA[::-1]},
        {"input_size": 192},
        {"pooling": "max"},
        {"quantise": "dynamic"},
        {"views": ["centre"]},
        {"views": ["whole", "whole-mirrored"]},
    ],
    ids=str,
)
def test_what_changes_the_backbone_changes_keys_and_artifact(options):
    plain = KerasExtractor("MobileNetV2", dimensions=64)
    other = KerasExtractor(**{"application": "MobileNetV2", "dimensions": 64, **options})
    assert other.artifact != plain.artifact
    assert other.features_key != plain.features_key
    assert other.spec.key != plain.spec.key
    assert set(other.spec.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


def test_what_does_not_change_the_backbone_keeps_the_artifact():
    plain = KerasExtractor("MobileNetV2", dimensions=64)
    wider = KerasExtractor("MobileNetV2", dimensions=128)
    untrimmed = KerasExtractor("MobileNetV2", dimensions=64, images={"trim": False})
    assert plain.artifact == wider.artifact == untrimmed.artifact
    assert plain.features_key == wider.features_key != untrimmed.features_key
    assert len({plain.spec.key, wider.spec.key, untrimmed.spec.key}) == 3


def test_views_are_a_set_and_the_picture_is_large_enough_for_each():
    sizes = {
        views: KerasExtractor("MobileNetV2", dimensions=64, views=views).spec.input_size
        for views in (("whole",), ("whole", "whole-mirrored"), ("centre",), ("whole", "centre-mirrored"))
    }
    assert list(sizes.values()) == [224, 224, 320, 320]
    one, other = (KerasExtractor(views=views).spec for views in (["whole", "centre"], ("centre", "whole", "centre")))
    assert one == other
    assert KerasExtractor(views="whole").spec == KerasExtractor().spec


def test_threads_and_the_place_of_weights_change_nothing():
    def key(**options: object) -> str:
        return KerasExtractor("VGG16", weights_sha256=SHA, **options).spec.key

    assert key(weights="a.h5") == key(weights="/other/b.h5") == key(weights=Path("a.h5"), threads=1)
    assert KerasExtractor("VGG16").spec.key == KerasExtractor("VGG16", "imagenet", None, 224, {}, "avg").spec.key


def test_key_changes_with_the_version_of_image_preparation(monkeypatch):
    extractor = KerasExtractor()
    before, artifact = extractor.spec.key, extractor.artifact
    monkeypatch.setattr(images, "VERSION", images.VERSION + 1)
    extractor = KerasExtractor()
    assert extractor.spec.key != before
    assert extractor.artifact == artifact


def test_every_key_is_short_enough():
    for application in APPLICATIONS:
        assert len(KerasExtractor(application, dimensions=128).spec.key) <= 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"application": "mobilenetV2"}, "no model 'mobilenetV2'. Did you mean MobileNetV2"),
        ({"application": "ResNet5O"}, "Did you mean ResNet50"),
        ({"application": "qqqq"}, "There are: ConvNeXtBase, "),
        ({"weights": "w.h5"}, "weights_sha256 must be the file's sha256.*sha256sum w.h5"),
        ({"weights": "w.h5", "weights_sha256": "abc"}, "64 hexadecimal digits"),
        ({"weights_sha256": SHA}, "weights_sha256 belongs to a file of weights"),
        (
            {"application": "VGG16", "dimensions": 513, "looks": 0},
            "512 features a picture, fewer than the field's 513 dimensions",
        ),
        ({"application": "MobileNet", "application_kwargs": {"alpha": 0.25}}, "give dimensions="),
        ({"application_kwargs": {"include_top": True}}, "application_kwargs can't have include_top"),
        ({"pooling": None}, 'pooling must be "avg" or "max"'),
        ({"quantise": "int4"}, 'quantise must be None or "dynamic"'),
        ({"looks": -0.1}, "looks must be a number of at least 0"),
        ({"dimensions": -1}, "dimensions must be 1 or more"),
        ({"views": []}, "views must be one or more of whole, whole-mirrored, centre, centre-mirrored, not none"),
        ({"views": ["whole", "top"]}, "views must be one or more of"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KerasExtractor(**options)


# The exported model against plain Keras


@needs_tensorflow
@needs_weights
@needs_photos
def test_features_are_the_mean_over_views(mobilenet, oracle):
    large = photos(8, VIEWS.spec.input_size)
    centre = mobilenet.network_features(np.ascontiguousarray(large[:, 48:272, 48:272][:, :, ::-1]))
    whole = mobilenet.network_features(photos(8, 224))
    found = VIEWS.network_features(large)
    assert least_cosine(centre, whole) < 0.9
    assert least_cosine(found, (centre + whole) / 2) > 0.99
    # The rest is the whole, scaled by the model itself instead of Pillow.
    assert least_cosine(2 * found - centre, whole) > 0.97


@needs_tensorflow
@needs_weights
@needs_photos
def test_export_gives_the_features_of_keras_on_real_photos(mobilenet, oracle):
    pictures, expected, _ = oracle("MobileNetV2")
    assert_same_features(mobilenet.network_features(pictures), expected)


@needs_tensorflow
@needs_weights
@needs_photos
@pytest.mark.parametrize(
    "application",
    [
        pytest.param("VGG16", id="VGG16, BGR less the mean"),
        pytest.param("MobileNetV3Small", id="MobileNetV3Small, preprocessing built in"),
    ],
)
def test_export_of_other_families_gives_the_features_of_keras(application, store, oracle):
    """With random weights that plain Keras saved, given by path and sha256."""
    pictures, expected, weights = oracle(application)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    extractor = KerasExtractor(application, weights, sha256, input_size=64, artifacts=store)
    store.put(extractor.artifact, weights.with_name(f"{application}.tflite").read_bytes())
    assert_same_features(extractor.network_features(pictures), expected)


@needs_tensorflow
@needs_weights
@needs_photos
def test_quantised_export_is_smaller_and_nearly_the_same(mobilenet, oracle, store):
    pictures = photos(24, 224)
    cosine = least_cosine(mobilenet.network_features(pictures), QUANTISED.network_features(pictures))
    assert 0.9 < cosine < 1 - 1e-6
    assert store.get(QUANTISED.artifact).stat().st_size < store.get(mobilenet.artifact).stat().st_size / 2


# Calls


@needs_tensorflow
@needs_weights
def test_rows_are_unit_float32_and_the_same_every_time(mobilenet):
    pictures = noise(3, 224)
    rows = mobilenet(pictures)
    assert rows.dtype == np.float32
    assert rows.shape == (3, 256)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(rows, mobilenet(pictures))
    np.testing.assert_allclose(rows[1:2], mobilenet(pictures[1:2]), atol=1e-5)
    np.testing.assert_allclose(rows, mobilenet(np.asfortranarray(pictures)), atol=1e-5)
    assert mobilenet(pictures[:0]).shape == (0, 256)


@needs_tensorflow
@needs_weights
@pytest.mark.parametrize("level", [0, 128, 255])
def test_uniform_pictures_have_a_vector(mobilenet, level):
    row = mobilenet(np.full((1, 224, 224, 3), level, np.uint8))
    assert np.isfinite(row).all()
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


@needs_tensorflow
@needs_weights
@needs_photos
def test_an_altered_photo_is_closest_to_itself_among_other_products(mobilenet):
    pictures = photos(80, 224)
    catalogue = mobilenet(pictures)
    for altered in (np.clip(pictures * 1.2, 0, 255).astype(np.uint8), pictures[:, :, ::-1]):
        assert ((mobilenet(altered) @ catalogue.T).argmax(axis=1) == np.arange(80)).mean() > 0.95


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (224, 224, 3), (1, 224, 224, 1)])
def test_other_arrays_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes uint8 \(n, 224, 224, 3\)"):
        KerasExtractor()(np.zeros(shape, np.uint8))


def test_widths_share_one_exported_model_and_one_interpreter(random_store):
    pictures = noise(2, 32)
    before = sorted(random_store.directory.iterdir())
    rows = {width: KerasExtractor(**RANDOM, dimensions=width, artifacts=random_store) for width in (8, 16, None)}
    assert [extractor(pictures).shape[1] for extractor in rows.values()] == [8, 16, 576]
    assert sorted(random_store.directory.iterdir()) == before
    assert len({id(extractor._loaded) for extractor in rows.values()}) == 1


def test_dimensions_beyond_features_known_only_after_the_export_are_refused(random_store, tmp_path):
    extractor = KerasExtractor(**RANDOM, application_kwargs={"alpha": 0.75}, dimensions=600, artifacts=random_store)
    # The model of another width under this one's name spares the test an export.
    exported = random_store.get(KerasExtractor(**RANDOM).artifact)
    extractor.artifacts = DirectoryStore(tmp_path)
    extractor.artifacts.put(extractor.artifact, exported.read_bytes())
    with pytest.raises(ValueError, match="gives 576 features a picture, fewer than the field's 600 dimensions"):
        extractor(noise(1, 32))


def test_threads_get_what_one_thread_gets(random_store):
    extractor = KerasExtractor(**RANDOM, artifacts=random_store)
    pictures = noise(40, 32)
    expected = extractor(pictures)
    wrong = []

    def work(offset: int) -> None:
        for i in range(offset, 40, 4):
            if not np.array_equal(extractor(pictures[i : i + 1])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_fork_after_the_first_call_works_and_ends(random_store):
    """LiteRT's threads don't survive a fork: an inherited interpreter would hang in a call and crash at the exit."""
    script = (
        "import json, os, sys, numpy\nfrom django_visual_search.extractors import DirectoryStore\n"
        "from django_visual_search.extractors.keras import KerasExtractor\n"
        "extractor = KerasExtractor(**json.loads(sys.argv[1]), threads=4, artifacts=DirectoryStore(sys.argv[2]))\n"
        "pictures = numpy.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=numpy.uint8)\n"
        "before = extractor(pictures)\nchildren = []\n"
        "for use in (True, False):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        sys.exit(0 if not use or numpy.array_equal(extractor(pictures), before) else 3)\n"
        "    children.append(child)\n"
        "print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])"
    )
    assert run(script, json.dumps(RANDOM), random_store.directory) == "[0, 0]"


# What can be missing


def test_without_tensorflow_an_exported_model_is_enough(random_store, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    extractor = KerasExtractor(**RANDOM, artifacts=random_store)
    assert extractor.missing() is None
    assert extractor(noise(1, 32)).shape == (1, 576)
    extractor = KerasExtractor(**RANDOM, artifacts=DirectoryStore(tmp_path))
    assert "django-visual-search[tensorflow]" in extractor.missing()
    assert "reindex_embeddings" in extractor.missing()
    with pytest.raises(ExtractorUnavailable, match=r"django-visual-search\[tensorflow\]"):
        extractor(noise(1, 32))


@needs_tensorflow
def test_imagenet_weights_that_can_not_be_had_are_named_once(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for proxy in ("http_proxy", "https_proxy"):  # a port that nobody listens on: no network at test time
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    extractor = KerasExtractor(artifacts=DirectoryStore(tmp_path / "store"))
    assert extractor.missing() is None
    with pytest.raises(ExtractorUnavailable) as caught:
        extractor(noise(1, 224))
    message = str(caught.value)
    assert "efficientnetv2-b0_notop.h5" in message
    assert str(tmp_path / "home" / "models") in message
    assert "weights_sha256" in message
    assert "ClassicExtractor" in message
    # A request that comes a moment later must not import TensorFlow again.
    monkeypatch.setattr(export, "interpreter", lambda: "/nowhere/python")
    with pytest.raises(ExtractorUnavailable, match=r"efficientnetv2-b0_notop\.h5"):
        extractor(noise(1, 224))


@needs_tensorflow
def test_weights_of_another_sha256_are_refused(tmp_path):
    weights = tmp_path / "w.h5"
    weights.write_bytes(b"other")
    extractor = KerasExtractor("VGG16", weights, SHA, artifacts=DirectoryStore(tmp_path))
    assert extractor.missing() is None
    with pytest.raises(
        ExtractorUnavailable, match=f"have the sha256 {hashlib.sha256(b'other').hexdigest()}, not {SHA}"
    ):
        extractor(noise(1, 224))
    weights.unlink()
    assert extractor.missing().startswith(f"There is no file {weights}, the weights of VGG16. Put it there. Or ")
    assert "ClassicExtractor" in extractor.missing()


@needs_tensorflow
def test_weights_that_do_not_fit_are_refused_with_the_reason(tmp_path):
    weights = tmp_path / "w.weights.h5"
    weights.write_bytes(b"not HDF5")
    sha256 = hashlib.sha256(b"not HDF5").hexdigest()
    extractor = KerasExtractor("MobileNetV2", weights, sha256, 32, artifacts=DirectoryStore(tmp_path))
    with pytest.raises(ExtractorUnavailable, match=r"MobileNetV2 could not be built with input_size=32.*OSError"):
        extractor(noise(1, 32))


def test_a_damaged_model_is_reported(tmp_path):
    extractor = KerasExtractor(**RANDOM, artifacts=DirectoryStore(tmp_path))
    extractor.artifacts.put(extractor.artifact, b"not a flatbuffer")
    with pytest.raises(ExtractorUnavailable, match="is not a model that LiteRT can run"):
        extractor(noise(1, 32))


def test_one_export_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with export.one_at_a_time("model.tflite"):
            inside.append(1)
            time.sleep(0.02)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
