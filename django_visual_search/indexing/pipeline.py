"""Embeds pictures in batches: the next batch is read and decoded while this one is inferred and written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import chain
from typing import Any

import numpy as np
from django.core.exceptions import SuspiciousOperation
from django.db import Error as DatabaseFailure
from numpy.typing import NDArray

from ..backends import extractor_of
from ..conf import conf
from ..decoder_pool import get_pool
from ..decoding import DecoderLost
from ..extractors import Extractor, ExtractorUnavailable
from ..fields import EmbeddingField
from ..images import ImageRefused
from . import claims
from .batches import batched
from .claims import Claim, Picture
from .lease import Lease
from .report import Report
from .stale import stale
from .writes import clear, write

logger = logging.getLogger("django_visual_search")

Decoded = list[tuple[Claim, "Future[NDArray[np.uint8]]"]]


def embed(field: EmbeddingField, keys: Iterable[Any], *, batch_size: int | None = None) -> Iterator[Report]:
    """Embed the rows with these primary keys (of the model that has the picture) that are stale; a report a batch.

    Raises ExtractorUnavailable, with the claims given back, where the extractor can't run here.
    """
    extractor = extractor_of(field)
    lease = Lease(field)
    ahead: Decoded = []
    unfinished: Decoded = []
    try:
        for batch in chain(batched(keys, batch_size or conf.BATCH_SIZE), [()]):
            report = Report()
            fresh, suspects = _look_up(field, batch, report)
            if fresh or suspects:
                _load(extractor)
            following = _decode(field, extractor, _claim(field, fresh))
            unfinished = ahead + following
            lease.hold([claimed for claimed, _ in unfinished])
            report.skipped += len(fresh) - len(following)
            report.add(_infer(field, extractor, ahead, lease))
            unfinished = following
            # What an earlier attempt did not finish goes one at a time: what killed it takes nothing else along.
            for suspect in suspects:
                alone = _decode(field, extractor, _claim(field, [suspect]))
                unfinished = following + alone
                lease.hold([claimed for claimed, _ in unfinished])
                report.skipped += 1 - len(alone)
                report.add(_infer(field, extractor, alone, lease))
            ahead = unfinished = following
            yield report
    finally:
        # Interrupted, or the extractor or the database is gone: not the pictures' fault, so it doesn't count as tried.
        for _, future in unfinished:
            future.cancel()
        if unfinished:
            _try_release(field, [claimed for claimed, _ in unfinished])


def _look_up(field: EmbeddingField, keys: tuple[Any, ...], report: Report) -> tuple[list[Picture], list[Picture]]:
    """Clear what has no picture any more; the stale rest as (never tried, tried before)."""
    if not keys:
        return [], []
    rows = list(stale(field).filter(pk__in=keys).values_list("pk", "visual_image", "visual_wanted"))
    report.skipped += len(keys) - len(rows)
    empty = [pk for pk, image, _ in rows if not image]
    if empty:
        report.cleared += clear(field, empty)
    pictures = [Picture(str(pk), image, wanted) for pk, image, wanted in rows if image]
    tried = claims.tried_before(field, pictures)
    return [p for p in pictures if p.object_id not in tried], [p for p in pictures if p.object_id in tried]


def _claim(field: EmbeddingField, pictures: list[Picture]) -> list[Claim]:
    """Claim what is still as it was: between the look and the claim, it may have been embedded or replaced."""
    claimed = claims.claim(field, pictures) if pictures else []
    if not claimed:
        return []
    to_python = field.target_model._meta.pk.to_python
    ids = [to_python(c.picture.object_id) for c in claimed]
    wanted = {str(pk): key for pk, key in stale(field).filter(pk__in=ids).values_list("pk", "visual_wanted")}
    left = [c for c in claimed if wanted.get(c.picture.object_id) == c.picture.key]
    claims.drop(field, [c for c in claimed if c not in left])
    return left


def _decode(field: EmbeddingField, extractor: Extractor, claimed: list[Claim]) -> Decoded:
    storage, spec, pool = field.image_field.storage, extractor.spec, get_pool()
    return [(c, pool.submit(storage, c.picture.image, spec)) for c in claimed]


def _load(extractor: Extractor) -> None:
    """The first call loads the model, or even exports it: that can outlast a lease, so it comes before any claim."""
    if extractor.loaded_in != os.getpid():
        size = extractor.spec.input_size
        extractor(np.full((1, size, size, 3), 127, np.uint8))
        extractor.loaded_in = os.getpid()


def _infer(field: EmbeddingField, extractor: Extractor, decoded: Decoded, lease: Lease) -> Report:
    report = Report()
    ready: list[tuple[Claim, NDArray[np.uint8]]] = []
    for claimed, future in decoded:
        try:
            ready.append((claimed, lease.wait(future)))
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
    if ready:
        lease.renew()
        _embed_ready(field, extractor, ready, report)
    return report


def _embed_ready(
    field: EmbeddingField, extractor: Extractor, ready: list[tuple[Claim, NDArray[np.uint8]]], report: Report
) -> None:
    claimed = [c for c, _ in ready]
    try:
        vectors = extractor(np.stack([picture for _, picture in ready]))
        _check(vectors, len(ready), field.dimensions)
        written = write(field, claimed, vectors)
    except ExtractorUnavailable:
        raise  # nothing to do with these pictures
    except Exception as e:
        if isinstance(e, DatabaseFailure) and not _rejects_a_row(e):
            raise
        if len(ready) > 1:
            for one in ready:
                _embed_ready(field, extractor, [one], report)
            return
        logger.warning("visual search: embedding %s of %s failed", claimed[0].picture.image, field.label, exc_info=True)
        _fail(field, claimed[0], "extractor", f"{type(e).__name__}: {e}", report)
        return
    lost = [c for c in claimed if c.picture.object_id not in written]
    if lost:
        # Replaced, deleted or locked meanwhile; the sweep looks again.
        claims.release(field, lost)
    report.done += len(written)
    report.skipped += len(lost)


def _rejects_a_row(error: DatabaseFailure) -> bool:
    """Whether a constraint, a trigger or a value stopped the write, rather than the connection or the server.

    SQLSTATE classes 22 (data exception), 23 (integrity constraint violation), P0 (raised by PL/pgSQL).
    """
    return str(getattr(error.__cause__, "sqlstate", None) or "")[:2] in ("22", "23", "P0")


def _check(vectors: NDArray[np.float32], count: int, dimensions: int | None) -> None:
    if vectors.shape != (count, dimensions):
        raise ValueError(
            f"The extractor gave an array of shape {vectors.shape}; ({count}, {dimensions}) was asked for."
        )
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError("The extractor gave a vector with NaN or infinite numbers.")
    if not half.any(axis=1).all():
        raise ValueError("The extractor gave a vector of zeros, which has no direction to compare.")


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


def _try_release(field: EmbeddingField, claimed: list[Claim]) -> None:
    try:
        claims.release(field, claimed)
    except DatabaseFailure:
        logger.warning("visual search: claims on %s not given back; they end with their lease", field.label)
