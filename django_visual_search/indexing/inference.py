"""From decoded pictures to written vectors, and what becomes of those that give none."""

from __future__ import annotations

import logging

import numpy as np
from django.core.exceptions import SuspiciousOperation
from django.db import Error as DatabaseFailure
from numpy.typing import NDArray

from ..conf import conf
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..images import ImageRefused
from . import claims
from .batches import Batch
from .claims import Claim
from .decoding.decoder import DecoderLost
from .embedder import Embedder
from .lease import Lease
from .lookups import Lookups
from .report import Report
from .writes import write

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


def finish(lookups: Lookups, embedder: Embedder, batch: Batch, lease: Lease, report: Report) -> None:
    """Wait for the batch's vectors and write them; raises ExtractorUnavailable and database errors.

    Where the extractor or the database rejects a batch, its pictures are embedded one by one.
    """
    field, claimed = lookups.field, batch.claimed
    try:
        vectors = lease.wait(batch.vectors or embedder.submit(batch))
        written = write(lookups, claimed, _checked(vectors, len(claimed), field.dimensions))
    except ExtractorUnavailable:
        raise  # nothing to do with these pictures
    except Exception as e:
        if isinstance(e, DatabaseFailure) and not _rejects_a_row(e):
            raise
        if len(claimed) > 1:
            for i in range(len(claimed)):
                finish(lookups, embedder, batch.only([i]), lease, report)
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
