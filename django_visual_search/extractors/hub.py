"""Networks that were trained with texts, from KerasHub: SigLIP, SigLIP 2 and CLIP.

Entry class: ``KerasHubExtractor``. Keras and TensorFlow are needed once, to export both towers; LiteRT runs them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from . import classic, export, litert
from .base import ArtifactStore, DirectoryStore, ExtractorUnavailable, digest, l2_normalise
from .keras import RETRY_SECONDS
from .looks import LOOKS, NetworkExtractor

HUB_EXPORT_VERSION = 1
"""Raised whenever ``build_hub`` makes other towers of the same preset; part of their names and of keys."""

WEIGHTS_FILE = "model.weights.h5"
"""The file of a preset's folder that has the weights."""

INSTALL_KERAS_HUB = (
    "KerasHub, which makes the towers of {}, is not installed here: install django-visual-search[keras-hub] on one "
    "machine that shares the database, and run `manage.py reindex_embeddings` (or any worker) there once."
)


class KerasHubExtractor(NetworkExtractor):
    """Pictures and texts in one space, by a network of KerasHub that was trained with both.

    ``preset``: name or handle of a preset of SigLIP, SigLIP 2 or CLIP, such as "siglip2_base_patch16_224"; or the path
    of a preset's folder, with ``weights_sha256`` of its ``model.weights.h5``.
    ``input_size``: side in pixels of what the network sees; None for the number at the end of the preset's name, which
    the names of CLIP's smaller presets lack: those take 224.
    ``quantise``: "dynamic" keeps the weights as int8, a quarter of the size; None keeps float32.
    ``looks``: weight of the classic descriptor beside the network's features; 0 leaves it out.
    ``threads``: LiteRT's; None for one per core, four at most.
    ``artifacts``: where the exported towers are kept; by default in the user's cache directory.

    Texts need the package sentencepiece (SigLIP) or tokenizers (CLIP), not TensorFlow. Raises ValueError for invalid
    options. A call raises ExtractorUnavailable if the towers don't exist yet and can't be made here, or can't be run
    here.
    """

    has_text_tower = True

    def __init__(
        self,
        preset: str | os.PathLike[str],
        weights_sha256: str | None = None,
        input_size: int | None = None,
        quantise: str | None = None,
        threads: int | None = None,
        looks: float = LOOKS,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        self.preset = os.fspath(preset)
        if quantise not in (None, "dynamic"):
            raise ValueError(f'quantise must be None or "dynamic", not {quantise!r}.')
        is_folder = os.path.isabs(self.preset) or self.preset.startswith(".")
        if is_folder != (weights_sha256 is not None) or (
            weights_sha256 and not re.fullmatch("[0-9a-fA-F]{64}", weights_sha256)
        ):
            raise ValueError(
                f"With a preset's folder, weights_sha256 must be the sha256 of its {WEIGHTS_FILE}, 64 hexadecimal "
                "digits: it identifies the vector space. A preset with a name takes none. The preset is "
                f"{self.preset!r}."
            )
        self.weights_sha256 = weights_sha256 and weights_sha256.lower()
        ending = re.search(r"_(\d{3,4})$", self.preset)
        self.input_size = input_size or (int(ending.group(1)) if ending else 224)
        self.quantise = quantise
        self.threads = threads
        self.name = f"hub-{'siglip' if 'siglip' in Path(self.preset).name.lower() else 'clip'}"
        self._failure: tuple[float, str] | None = None
        super().__init__(looks=looks, dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    def network_width(self) -> int | None:
        return None

    @property
    def identity(self) -> tuple[object, ...]:
        return (HUB_EXPORT_VERSION, self.weights_sha256 or self.preset, self.input_size, self.quantise)

    @property
    def artifact(self) -> str:
        """The prefix of the exported towers' names, the same for every ``dimensions`` and image option."""
        return f"{self.name}-{digest(*self.identity)}"

    @property
    def names(self) -> dict[str, str]:
        """The names of the artifacts, by the files that ``build_hub`` writes."""
        files = {"model.tflite": "image.tflite", "text.tflite": "text.tflite", "tokenizer.json": "tokenizer.json"}
        return {file: f"{self.artifact}-{ending}" for file, ending in files.items()}

    def network_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._tower("model.tflite")(images)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.spec.dimensions), np.float32)
        tokens = np.stack([self._tokenizer()(text) for text in texts])
        said = l2_normalise(self._tower("text.tflite")(tokens))
        if self.looks:  # a text says nothing of the descriptor's numbers
            said = np.concatenate([said, np.zeros((len(said), classic.DESCRIPTOR_WIDTH), np.float32)], axis=1)
        return self.project(said.astype(np.float16))

    def _tower(self, file: str) -> litert.Flatbuffer:
        towers: dict[str, litert.Flatbuffer] = self.__dict__.setdefault("_towers", {})
        if file not in towers:
            if problem := litert.runtime_problem():
                raise ExtractorUnavailable(problem)
            towers[file] = litert.shared_flatbuffer(self._exported(file), self.threads)
        return towers[file]

    def _tokenizer(self) -> TextTokenizer:
        made: TextTokenizer | None = self.__dict__.get("_made_tokenizer")
        if made is None:
            made = self._made_tokenizer = TextTokenizer(json.loads(self._exported("tokenizer.json").read_text()))
        return made

    def _exported(self, file: str) -> Path:
        store, name = self._store(), self.names[file]
        path = store.get(name)
        if path is not None:
            return path
        if self._failure and time.monotonic() < self._failure[0]:
            raise ExtractorUnavailable(self._failure[1])
        with export.one_at_a_time(self.artifact):
            try:
                if (path := store.get(name)) is None:
                    for other, data in self._export().items():
                        kept = store.put(self.names[other], data)
                        path = kept if other == file else path
            except ExtractorUnavailable as e:
                self._failure = (time.monotonic() + RETRY_SECONDS, str(e))
                raise
        assert path is not None
        return path

    def _export(self) -> dict[str, bytes]:
        if problem := self._export_problem():
            raise ExtractorUnavailable(problem)
        if self.weights_sha256:
            export.check_weights(Path(self.preset, WEIGHTS_FILE), self.weights_sha256)
        with tempfile.TemporaryDirectory(prefix="django-visual-search-") as folder:
            output = Path(folder, "model.tflite")
            request = {"preset": self.preset, "input_size": self.input_size, "quantise": self.quantise}
            cut_off = "download the preset elsewhere and give its folder as preset, with weights_sha256."
            report = export.run_build("build_hub", request, output, self.preset, cut_off)
            if report is not None:
                raise ExtractorUnavailable(f"The towers of {self.preset} could not be made: {report['message']}")
            return {file: Path(folder, file).read_bytes() for file in self.names}

    def _export_problem(self) -> str | None:
        if any(find_spec(package) is None for package in ("keras_hub", "keras", "tensorflow")):
            return INSTALL_KERAS_HUB.format(self.preset)
        if self.weights_sha256 and not Path(self.preset, WEIGHTS_FILE).is_file():
            return f"There is no file {WEIGHTS_FILE} in {self.preset}: put the preset's folder there."
        return None

    def _store(self) -> ArtifactStore:
        if self.artifacts is None:
            self.artifacts = DirectoryStore(user_cache_path("django-visual-search", appauthor=False))
        return self.artifacts

    def export_needed(self) -> str | None:
        # The tokenizer is put last.
        if self.__dict__.get("_towers") or self._store().get(self.names["tokenizer.json"]):
            return None
        return self._export_problem() or export.NOT_EXPORTED.format(self.preset)

    def missing(self) -> str | None:
        """Return why a call would fail here, or None; asks the store only if no towers could be exported."""
        problem = litert.runtime_problem()
        if problem is None and (problem := self._export_problem()) and self._store().get(self.names["tokenizer.json"]):
            return None
        return problem


PUNCTUATION = re.compile(r"""[!"#$%&\\'()*+,\-./:;<=>?@\[\]^_`{|}~]""")
"""Characters that SigLIP's texts lose."""
LOWER = str.maketrans({chr(letter): chr(letter + 32) for letter in range(ord("A"), ord("Z") + 1)})
"""To lower case as TensorFlow does it: English letters only."""


class TextTokenizer:
    """From a text to its row of tokens, int32 ``(length,)``, as KerasHub makes it, without TensorFlow.

    ``described``: what ``build_hub`` wrote. Raises ExtractorUnavailable if the package that it needs is not installed.
    """

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described
        package = described["kind"]
        if find_spec(package) is None:
            raise ExtractorUnavailable(
                f"Texts need the package {package}, which is not installed: pip install {package}"
            )
        self._encode: Callable[[str], Sequence[int]]
        if package == "sentencepiece":
            import sentencepiece

            model = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(described["model"]))
            self._encode = model.encode
        else:
            import tokenizers

            whole = tokenizers.Tokenizer.from_str(described["model"])

            def encode(text: str) -> Sequence[int]:
                return list(whole.encode(text, add_special_tokens=False).ids)

            self._encode = encode

    def __call__(self, text: str) -> NDArray[np.int32]:
        how = self.described
        if how["lower"]:
            text = text.translate(LOWER)
        if how["plain"]:
            text = " ".join(PUNCTUATION.sub("", text).split())
        start = [] if how["start"] is None else [how["start"]]
        end = [] if how["end"] is None else [how["end"]]
        tokens = [*start, *list(self._encode(text))[: how["length"] - len(start) - len(end)], *end]
        return np.array(tokens + [how["pad"]] * (how["length"] - len(tokens)), np.int32)
