"""Turn pictures, or the features kept of them, into vectors, in a thread beside decoding and writing.

Entry function: ``Embedder.submit``. A backbone's features are kept (``FEATURE_CACHE_ROWS``), so that another head needs
no picture read or decoded again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from django.db import connections
from numpy.typing import NDArray

from ..conf import conf
from ..extractors import Extractor
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..spaces import features
from .claims import Claim


class EmbeddedBatch(NamedTuple):
    """The results for some pictures."""

    vectors: NDArray[np.float16]
    """``(n, dimensions)``, as the column keeps them."""
    features: NDArray[np.float16] | None
    """``(n, width)``: made from the pictures and worth keeping."""


class Embedder:
    """Runs an extractor, and keeps the features it makes."""

    def __init__(self, field: EmbeddingField, extractor: Extractor) -> None:
        self.field = field
        self.extractor = extractor
        self.backbone = extractor if isinstance(extractor, BackboneExtractor) and conf.FEATURE_CACHE_ROWS else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="visual-search-infer")

    def load(self) -> None:
        """Load the model, exporting it if needed. This can outlast a lease, so it comes before any claim."""
        if self.extractor.loaded_in != os.getpid():
            size = self.extractor.spec.input_size
            self.extractor(np.full((1, size, size, 3), 127, np.uint8))
            self.extractor.loaded_in = os.getpid()

    def submit(self, inputs: NDArray[Any], *, kept: bool) -> Future[EmbeddedBatch]:
        """Begin to embed a batch: from pixels, uint8 ``(n, s, s, 3)``, or from ``kept`` features, ``(n, width)``.

        The future raises ValueError for vectors that are not fit to be written.
        """
        return self._thread.submit(self._embed, inputs, kept)

    def kept(self, claimed: list[Claim]) -> dict[str, NDArray[np.float16]]:
        """Return the features that are kept of these pictures, by object id."""
        if self.backbone is None or not self._any_kept:
            return {}
        pictures = [(c.picture.object_id, c.picture.image) for c in claimed]
        return features.read(self.field, self.backbone.features_key, pictures)

    def keep(self, claimed: list[Claim], made: NDArray[np.float16], written: Collection[str]) -> None:
        """Keep the features of those pictures whose vectors were written. ``written``: object ids."""
        places = [i for i, c in enumerate(claimed) if c.picture.object_id in written]
        pictures = [claimed[i].picture for i in places]
        self._keeper.keep([(picture.object_id, picture.image) for picture in pictures], made[places])

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)

    @functools.cached_property
    def _any_kept(self) -> bool:
        """Whether to look for a batch's features: they are kept from the first time that a picture is embedded."""
        assert self.backbone is not None
        return features.any_kept(self.field, self.backbone.features_key)

    @functools.cached_property
    def _keeper(self) -> features.Keeper:
        assert self.backbone is not None
        return features.Keeper(self.field, self.backbone.features_key)

    def _embed(self, inputs: NDArray[Any], kept: bool) -> EmbeddedBatch:
        try:
            return self._made(inputs, kept)
        finally:
            connections.close_all()  # an extractor may have opened one, and no request ends in this thread

    def _made(self, inputs: NDArray[Any], kept: bool) -> EmbeddedBatch:
        made = None
        if self.backbone is None:
            vectors = self.extractor(inputs)
        elif kept:
            vectors = self.backbone.project(inputs)
        else:
            made = self.backbone.kept_features(inputs)
            vectors = self.backbone.project(made)
        return EmbeddedBatch(_as_kept(vectors, len(inputs), self.field.dimensions), made)


def _as_kept(vectors: NDArray[np.float32], count: int, dimensions: int | None) -> NDArray[np.float16]:
    """Return vectors in the column's precision. Raises ValueError for vectors that can't be compared."""
    if vectors.shape != (count, dimensions):
        raise ValueError(
            f"The extractor gave an array of shape {vectors.shape}; ({count}, {dimensions}) was asked for."
        )
    with np.errstate(over="ignore"):
        half: NDArray[np.float16] = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError("The extractor gave a vector with NaN or infinite numbers.")
    if not half.any(axis=1).all():
        raise ValueError("The extractor gave a vector of zeros, which has no direction to compare.")
    return half
