"""Any ``keras.applications`` model as an extractor: Keras builds it once in another process, LiteRT runs it.

Entry point: ``KerasExtractor``. The table of models gives their widths and sizes without an import of Keras.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from . import export, litert
from .base import ArtifactStore, DirectoryStore, ExtractorUnavailable, digest
from .looks import LOOKS, NetworkExtractor

# name: (features of the pooled last layer, default side of the input in pixels), as Keras 3.15 builds them.
APPLICATIONS: dict[str, tuple[int, int]] = {
    "ConvNeXtBase": (1024, 224),
    "ConvNeXtLarge": (1536, 224),
    "ConvNeXtSmall": (768, 224),
    "ConvNeXtTiny": (768, 224),
    "ConvNeXtXLarge": (2048, 224),
    "DenseNet121": (1024, 224),
    "DenseNet169": (1664, 224),
    "DenseNet201": (1920, 224),
    "EfficientNetB0": (1280, 224),
    "EfficientNetB1": (1280, 240),
    "EfficientNetB2": (1408, 260),
    "EfficientNetB3": (1536, 300),
    "EfficientNetB4": (1792, 380),
    "EfficientNetB5": (2048, 456),
    "EfficientNetB6": (2304, 528),
    "EfficientNetB7": (2560, 600),
    "EfficientNetV2B0": (1280, 224),
    "EfficientNetV2B1": (1280, 240),
    "EfficientNetV2B2": (1408, 260),
    "EfficientNetV2B3": (1536, 300),
    "EfficientNetV2L": (1280, 480),
    "EfficientNetV2M": (1280, 480),
    "EfficientNetV2S": (1280, 384),
    "InceptionResNetV2": (1536, 299),
    "InceptionV3": (2048, 299),
    "MobileNet": (1024, 224),
    "MobileNetV2": (1280, 224),
    "MobileNetV3Large": (960, 224),
    "MobileNetV3Small": (576, 224),
    "NASNetLarge": (4032, 331),
    "NASNetMobile": (1056, 224),
    "ResNet50": (2048, 224),
    "ResNet50V2": (2048, 224),
    "ResNet101": (2048, 224),
    "ResNet101V2": (2048, 224),
    "ResNet152": (2048, 224),
    "ResNet152V2": (2048, 224),
    "VGG16": (512, 224),
    "VGG19": (512, 224),
    "Xception": (2048, 299),
}

RESERVED = frozenset(
    {
        *("classes", "classifier_activation", "include_preprocessing", "include_top"),
        *("input_shape", "input_tensor", "name", "pooling", "weights"),
    }
)
"""Arguments of an application that KerasExtractor sets itself."""


def check_application(name: str) -> None:
    """Raise ValueError, with the names that come close, if ``keras.applications`` has no such model."""
    if name not in APPLICATIONS:
        lower = {application.lower(): application for application in APPLICATIONS}
        close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=4, cutoff=0.5)]
        raise ValueError(
            f"keras.applications has no model {name!r}. "
            + (f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(APPLICATIONS)}.")
        )


def known_width(name: str, kwargs: dict[str, object]) -> int | None:
    """Return how many features the application gives, or None if these ``kwargs`` may change it."""
    width = APPLICATIONS[name][0]
    alpha = kwargs.get("alpha", 1.0)
    if set(kwargs) - {"alpha"} or not isinstance(alpha, int | float):
        return None
    # MobileNetV2 never narrows its last layer (M. Sandler et al., "MobileNetV2", 2018, section 4).
    return width if alpha == 1 or (name == "MobileNetV2" and alpha < 1) else None


EXPORT_VERSION = 1
"""Raised whenever ``build`` makes another model of the same recipe; part of the exported models' names and of keys."""

RETRY_SECONDS = 60
"""Seconds that a failed export is remembered: each try imports TensorFlow, and every saved picture would be one."""


class KerasExtractor(NetworkExtractor):
    """Pooled features of a convolutional network trained on ImageNet, or with other ``weights``.

    ``application``: name of a model in ``keras.applications``; its own preprocessing is part of the exported model.
    ``weights``: "imagenet"; a path to a file for ``load_weights``, with its ``weights_sha256``; or None for random
    weights (tests).
    ``input_size``: side in pixels of what the network sees; None for the application's default.
    ``application_kwargs``: further arguments of the application, such as ``{"alpha": 0.35}``.
    ``pooling``: "avg" or "max" over the last feature map.
    ``views``: parts of the picture that the network looks at, of "whole", "centre" (70 % of the side) and their mirror
    images, "whole-mirrored" and "centre-mirrored"; the features are the mean over them. Each takes as long as the
    picture alone. Measured on grocery photos, ``("whole", "centre-mirrored")`` finds far more than "whole" alone: see
    docs/howto/extractors.md.
    ``quantise``: "dynamic" keeps the weights as int8, which makes VGG16 three times as fast and a quarter as large and
    changes the features a little; None keeps float32.
    ``looks``: weight of the classic descriptor beside the network's features; 0 leaves it out.
    ``threads``: LiteRT's; None for one per core, four at most.
    ``artifacts``: where the exported model is kept; by default in the user's cache directory.

    Raises ValueError for invalid options. A call raises ExtractorUnavailable if the exported model doesn't exist yet
    and can't be made here, or can't be run here.
    """

    def __init__(
        self,
        application: str = "EfficientNetV2B0",
        weights: str | os.PathLike[str] | None = "imagenet",
        weights_sha256: str | None = None,
        input_size: int | None = None,
        application_kwargs: dict[str, Any] | None = None,
        pooling: str = "avg",
        threads: int | None = None,
        quantise: str | None = None,
        views: Sequence[str] = export.WHOLE_VIEW,
        looks: float = LOOKS,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        check_application(application)
        kwargs = dict(application_kwargs or {})
        if RESERVED & kwargs.keys():
            raise ValueError(f"application_kwargs can't have {', '.join(sorted(RESERVED & kwargs.keys()))}.")
        if pooling not in ("avg", "max"):
            raise ValueError(f'pooling must be "avg" or "max", not {pooling!r}.')
        if quantise not in (None, "dynamic"):
            raise ValueError(f'quantise must be None or "dynamic", not {quantise!r}.')
        self.recipe = export.Recipe(
            application=application,
            weights=None if weights is None else os.fspath(weights),
            weights_sha256=_pinned(weights, weights_sha256),
            input_size=input_size or APPLICATIONS[application][1],
            pooling=pooling,
            quantise=quantise,
            kwargs=json.loads(json.dumps(kwargs, sort_keys=True)),
            views=export.check_views(views),
        )
        self.name = f"keras-{application.lower()}"
        self.input_size = self.recipe.picture_size
        self.threads = threads
        self._failure: tuple[float, str] | None = None
        super().__init__(looks=looks, dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    def network_width(self) -> int | None:
        return known_width(self.recipe.application, self.recipe.kwargs)

    @property
    def identity(self) -> tuple[object, ...]:
        recipe = self.recipe
        # Weights by content, so that moving the file changes nothing.
        weights = recipe.weights_sha256 or recipe.weights or "random"
        kwargs = json.dumps(recipe.kwargs, sort_keys=True)
        views = () if recipe.views == export.WHOLE_VIEW else recipe.views
        size, pooling = recipe.input_size, recipe.pooling
        return (EXPORT_VERSION, recipe.application, kwargs, weights, size, pooling, recipe.quantise, *views)

    @property
    def artifact(self) -> str:
        """The name of the exported model, the same for every ``dimensions`` and all image options."""
        return f"{self.name}-{digest(*self.identity)}.tflite"

    def network_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._load()(images)

    def _load(self) -> litert.Flatbuffer:
        loaded: litert.Flatbuffer | None = self.__dict__.get("_loaded")
        if loaded is None:
            if problem := litert.runtime_problem():
                raise ExtractorUnavailable(problem)
            loaded = self._loaded = litert.shared_flatbuffer(self._exported(), self.threads)
        return loaded

    def _exported(self) -> Path:
        store = self._store()
        path = store.get(self.artifact)
        if path is not None:
            return path
        if self._failure and time.monotonic() < self._failure[0]:
            raise ExtractorUnavailable(self._failure[1])
        with export.one_at_a_time(self.artifact):
            try:
                return store.get(self.artifact) or store.put(self.artifact, export.export(self.recipe))
            except ExtractorUnavailable as e:
                self._failure = (time.monotonic() + RETRY_SECONDS, str(e))
                raise

    def _store(self) -> ArtifactStore:
        if self.artifacts is None:
            self.artifacts = DirectoryStore(user_cache_path("django-visual-search", appauthor=False))
        return self.artifacts

    def export_needed(self) -> str | None:
        if "_loaded" in self.__dict__ or self._store().get(self.artifact):
            return None
        return export.export_problem(self.recipe) or export.NOT_EXPORTED.format(self.recipe.application)

    def missing(self) -> str | None:
        """Return why a call would fail here, or None; asks the store only if no model could be exported."""
        problem = litert.runtime_problem()
        if problem is None and (problem := export.export_problem(self.recipe)) and self._store().get(self.artifact):
            return None
        return problem


def _pinned(weights: object, sha256: str | None) -> str | None:
    """Return the sha256 of a file of weights in lower case; None for other weights."""
    if weights is None or weights == "imagenet":
        if sha256:
            raise ValueError(f"weights_sha256 belongs to a file of weights, but weights is {weights!r}.")
        return None
    if sha256 is None or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(
            f"With weights={weights!s}, weights_sha256 must be the file's sha256, 64 hexadecimal digits (`sha256sum "
            f"{weights!s}` prints it): it identifies the vector space of these weights."
        )
    return sha256.lower()
