"""From pictures, or features that are kept of them, to vectors: in a thread of its own, beside decoding and writing.

From decoded pictures to written vectors, and what becomes of those that give none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from django.core.exceptions import SuspiciousOperation
from django.db import Error as DatabaseFailure
from django.db import connections
from numpy.typing import NDArray

from ..conf import conf
from ..extractors import Extractor, ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..images import ImageRefused
from ..spaces import features
from . import claims
from .claims import Batch, Claim, Lease
from .decoding.decoder import DecoderLost
from .runs import Report
from .writes import write


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


logger = logging.getLogger("django_visual_search")


def decoded(field: EmbeddingField, batch: Batch, lease: Lease, report: Report) -> Batch:
    """Wait for the batch's pictures; those that can't be had are settled and left out."""
    lease.wait_for_all(batch.decoded)
    places = []
    for i, (claimed, future) in enumerate(zip(batch.claimed, batch.decoded, strict=True)):
        try:
            future.result()
            places.append(i)
        except ImageRefused as e:
            _refuse(field, claimed, e.code, str(e), report)
        except FileNotFoundError:
            _refuse(field, claimed, "missing_file", f"The storage has no file {claimed.picture.image!r}.", report)
        except DecoderLost as e:
            _fail(field, claimed, e.code, str(e), report)
        except SuspiciousOperation as e:
            _refuse(
                field, claimed, "unsafe_name", f"The storage refuses the name {claimed.picture.image!r}: {e}", report
            )
        except ExtractorUnavailable:
            raise
        except Exception as e:
            # The storage may be down; that is not this picture's fault.
            logger.warning("visual search: can't read %s of %s: %s", claimed.picture.image, field.label, e)
            claims.release(field, [claimed], f"The storage failed: {e}", after=conf.LEASE_SECONDS)
            report.failed += 1
            report.reasons["storage"] += 1
    return batch.only(places)


def finish(field: EmbeddingField, embedder: Embedder, batch: Batch, lease: Lease, report: Report) -> None:
    """Wait for the batch's vectors and write them; raises ExtractorUnavailable and database errors.

    Where the extractor or the database rejects a batch, its pictures are embedded one by one.
    """
    claimed = batch.claimed
    try:
        vectors = lease.wait(batch.vectors or embedder.submit(batch))
        written = write(field, claimed, _checked(vectors, len(claimed), field.dimensions))
    except ExtractorUnavailable:
        raise  # nothing to do with these pictures
    except Exception as e:
        if isinstance(e, DatabaseFailure) and not _rejects_a_row(e):
            raise
        if len(claimed) > 1:
            for i in range(len(claimed)):
                finish(field, embedder, batch.only([i]), lease, report)
            return
        logger.warning("visual search: embedding %s of %s failed", claimed[0].picture.image, field.label, exc_info=True)
        _fail(field, claimed[0], "extractor", f"{type(e).__name__}: {e}", report)
        return
    lost = [c for c in claimed if c.picture.object_id not in written]
    if lost:
        # Replaced, deleted or locked meanwhile; the sweep looks again.
        claims.release(field, lost)
    embedder.keep(batch, written)
    report.done += len(written)
    report.skipped += len(lost)


def _rejects_a_row(error: DatabaseFailure) -> bool:
    """Whether a constraint, a trigger or a value stopped the write, rather than the connection or the server.

    SQLSTATE classes 22 (data exception), 23 (integrity constraint violation), P0 (raised by PL/pgSQL).
    """
    return str(getattr(error.__cause__, "sqlstate", None) or "")[:2] in ("22", "23", "P0")


def _checked(vectors: NDArray[np.float32], count: int, dimensions: int | None) -> NDArray[np.float16]:
    """As the column keeps them."""
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


def _refuse(field: EmbeddingField, claimed: Claim, code: str, message: str, report: Report) -> None:
    claims.refuse(field, claimed, code, message)
    report.refused += 1
    report.reasons[code] += 1


def _fail(field: EmbeddingField, claimed: Claim, code: str, message: str, report: Report) -> None:
    claims.fail(field, claimed, code, message)
    if claimed.attempts >= conf.MAX_ATTEMPTS:
        report.quarantined += 1
    else:
        report.failed += 1
    report.reasons[code] += 1
