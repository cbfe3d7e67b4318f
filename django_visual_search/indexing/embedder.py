"""From pictures, or features that are kept of them, to vectors: in a thread of its own, beside decoding and writing."""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from django.db import connections
from numpy.typing import NDArray

from ..conf import conf
from ..extractors import Extractor
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..spaces import features
from .batches import Batch
from .claims import Claim


class Embedder:
    """Runs the extractor, and keeps the features it made (``FEATURE_CACHE_ROWS``) for other heads."""

    def __init__(self, field: EmbeddingField, extractor: Extractor) -> None:
        self.field = field
        self.extractor = extractor
        self.backbone = extractor if isinstance(extractor, BackboneExtractor) and conf.FEATURE_CACHE_ROWS else None
        self.any_kept = self.backbone is not None and features.any_kept(field, self.backbone.features_key)
        self._keeper: features.Keeper | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="visual-search-infer")

    def load(self) -> None:
        """The first call loads the model or even exports it: that can outlast a lease, so it comes before any claim."""
        if self.extractor.loaded_in != os.getpid():
            size = self.extractor.spec.input_size
            self.extractor(np.full((1, size, size, 3), 127, np.uint8))
            self.extractor.loaded_in = os.getpid()

    def kept(self, claimed: list[Claim]) -> dict[str, NDArray[np.float16]]:
        """The features that are kept of these pictures, by object id."""
        if self.backbone is None or not self.any_kept:
            return {}
        pictures = [(c.picture.object_id, c.picture.image) for c in claimed]
        return features.read(self.field, self.backbone.features_key, pictures)

    def submit(self, batch: Batch) -> Future[NDArray[np.float32]]:
        """Begin to embed a batch."""
        return self._thread.submit(self._vectors, batch)

    def keep(self, batch: Batch, written: Collection[str]) -> None:
        """Keep the features that were made of a batch, of those pictures whose vectors were written."""
        if self.backbone is None or batch.made is None:
            return
        places = [i for i, c in enumerate(batch.claimed) if c.picture.object_id in written]
        if self._keeper is None:
            self._keeper = features.Keeper(self.field, self.backbone.features_key)
        pictures = [batch.claimed[i].picture for i in places]
        self._keeper.keep([(picture.object_id, picture.image) for picture in pictures], batch.made[places])

    def close(self) -> None:
        """Let the thread end."""
        self._thread.submit(connections.close_all)  # an extractor may have opened one
        self._thread.shutdown(wait=False)

    def _vectors(self, batch: Batch) -> NDArray[np.float32]:
        if self.backbone is None:
            return self.extractor(batch.pixels)
        if batch.features is not None:
            return self.backbone.project(batch.features)
        batch.made = self.backbone.kept_features(batch.pixels)
        return self.backbone.project(batch.made)
