"""KerasHub's SigLIP and CLIP as extractors: tiny presets with random weights, exported and run as real ones are."""

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from django_visual_search.extractors import DirectoryStore, ExtractorUnavailable, hub
from django_visual_search.extractors.export import environment
from django_visual_search.extractors.hub import KerasHubExtractor, TextTokenizer

from ..hub_oracle import SIZE, TEXTS

ROOT = Path(__file__).resolve().parent.parent.parent
SHA = "0" * 64
with_keras_hub = pytest.mark.skipif(find_spec("keras_hub") is None, reason="the extra keras-hub is not installed")


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    command = [sys.executable, "-m", "tests.hub_oracle", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["siglip", "clip"])
def case(request, presets):
    """Return an extractor and what KerasHub makes of the same weights."""
    preset = presets / request.param
    sha256 = hashlib.sha256((preset / hub.WEIGHTS_FILE).read_bytes()).hexdigest()
    store = DirectoryStore(presets / f"{request.param}-store")
    options = {"weights_sha256": sha256, "input_size": SIZE, "dimensions": 16, "artifacts": store}
    return KerasHubExtractor(preset, looks=0, **options), np.load(presets / f"{request.param}.npz"), preset, options


def cosines(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@with_keras_hub
@pytest.mark.slow
def test_both_towers_equal_keras_hubs(case):
    extractor, expected, preset, options = case
    assert "reindex_embeddings" in extractor.export_needed()
    vectors = extractor(expected["pictures"])
    assert vectors.shape == (3, 16)
    assert extractor.export_needed() is extractor.missing() is None
    assert cosines(extractor.network_features(expected["pictures"]), expected["image"]).min() > 1 - 1e-4
    tokens = np.stack([extractor._tokenizer()(text) for text in TEXTS])
    np.testing.assert_array_equal(tokens, expected["tokens"])
    assert cosines(extractor._tower("text.tflite")(tokens), expected["text"]).min() > 1 - 1e-4
    assert cosines(extractor.embed_text(TEXTS), extractor.project(expected["text"].astype(np.float16))).min() > 0.999
    assert extractor.embed_text([]).shape == (0, 16)
    with_looks = KerasHubExtractor(preset, **options)
    assert with_looks.embed_text(TEXTS).shape == with_looks(expected["pictures"][[0, 0, 1, 1, 2]]).shape
    assert with_looks.spec.key != extractor.spec.key
    assert not {"tensorflow", "keras_hub"} & set(sys.modules)


@with_keras_hub
@pytest.mark.slow
@pytest.mark.parametrize("case", ["siglip"], indirect=True)
def test_a_preset_of_another_size_is_reported(case):
    _, _, preset, options = case
    other = KerasHubExtractor(preset, **{**options, "input_size": 64})
    with pytest.raises(ExtractorUnavailable, match="takes pictures of 32 pixels: set input_size to 32"):
        other(np.zeros((1, 64, 64, 3), np.uint8))
    damaged = KerasHubExtractor(preset, **{**options, "weights_sha256": SHA})
    with pytest.raises(ExtractorUnavailable, match="not 0000"):
        damaged(np.zeros((1, SIZE, SIZE, 3), np.uint8))


def test_options():
    assert KerasHubExtractor("siglip2_base_patch16_256", dimensions=256).spec.input_size == 256
    assert KerasHubExtractor("clip_vit_base_patch32", dimensions=256).spec.input_size == 224
    small = KerasHubExtractor("siglip_base_patch16_224", quantise="dynamic", dimensions=256)
    assert small.spec.key.startswith("hub-siglip-256-")
    assert small.spec.key != KerasHubExtractor("siglip_base_patch16_224", dimensions=256).spec.key
    for options in (
        {"preset": "/presets/siglip"},
        {"preset": "./siglip", "weights_sha256": "12"},
        {"preset": "siglip_base_patch16_224", "weights_sha256": SHA},
        {"preset": "siglip_base_patch16_224", "quantise": "int4"},
    ):
        with pytest.raises(ValueError, match=r"weights_sha256|quantise"):
            KerasHubExtractor(**options, dimensions=256)


def test_without_keras_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    extractor = KerasHubExtractor("siglip_base_patch16_224", dimensions=64, artifacts=DirectoryStore(tmp_path))
    assert "django-visual-search[keras-hub]" in extractor.missing()
    assert extractor.export_needed() == extractor.missing()
    with pytest.raises(ExtractorUnavailable, match="keras-hub"):
        extractor.embed_text(["blue mug"])
    with pytest.raises(ExtractorUnavailable, match="pip install sentencepiece"):
        TextTokenizer(json.loads('{"kind": "sentencepiece", "model": ""}'))
