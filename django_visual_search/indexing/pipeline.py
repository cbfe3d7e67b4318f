"""Embeds pictures in batches: the next batch is read and decoded while this one is inferred and written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field as dataclass_field
from itertools import chain
from typing import Any

import numpy as np
from django.db import Error as DatabaseFailure
from numpy.typing import NDArray

from ..backends import extractor_of
from ..conf import conf
from ..decoding import DecoderLost, get_pool
from ..extractors import Extractor, ExtractorUnavailable
from ..fields import EmbeddingField
from ..images import ImageRefused
from . import claims
from .claims import Claim, Picture
from .stale import stale
from .writes import clear, write

logger = logging.getLogger("django_visual_search")

Decoded = list[tuple[Claim, "Future[NDArray[np.uint8]]"]]


@dataclass
class Report:
    """What became of pictures: counts, and why some have no vector."""

    done: int = 0
    skipped: int = 0
    """Current already, held by another process, or changed while they were worked on."""
    cleared: int = 0
    refused: int = 0
    failed: int = 0
    quarantined: int = 0
    reasons: Counter[str] = dataclass_field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Add another report's counts."""
        for name in ("done", "skipped", "cleared", "refused", "failed", "quarantined"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)


def embed(field: EmbeddingField, keys: Iterable[Any], *, batch_size: int | None = None) -> Iterator[Report]:
    """Embed the rows with these primary keys (of the model that has the picture) that are stale; a report after each batch.

    Raises ExtractorUnavailable, with the claims given back, where the extractor can't run here.
    """
    extractor = extractor_of(field)
    ahead: Decoded = []
    following: Decoded = []
    try:
        for batch in chain(_batched(keys, batch_size or conf.BATCH_SIZE), [()]):
            report = Report()
            fresh, suspects = _look_up(field, batch, report)
            following = _decode(field, extractor, claims.claim(field, fresh)) if fresh else []
            report.skipped += len(fresh) - len(following)
            ahead, current = [], ahead
            report.add(_infer(field, extractor, current))
            # What an earlier attempt did not finish goes one at a time: what killed it takes nothing else along.
            for suspect in suspects:
                claimed = claims.claim(field, [suspect])
                report.skipped += 1 - len(claimed)
                report.add(_infer(field, extractor, _decode(field, extractor, claimed)))
            ahead, following = following, []
            yield report
    finally:
        # Interrupted, or the extractor or the database is gone: nothing of what was read ahead counts as tried.
        left = ahead + following
        for _, future in left:
            future.cancel()
        if left:
            _try_release(field, [claimed for claimed, _ in left])


def _batched(keys: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    iterator = iter(keys)
    while batch := tuple(key for _, key in zip(range(size), iterator, strict=False)):
        yield batch


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


def _decode(field: EmbeddingField, extractor: Extractor, claimed: list[Claim]) -> Decoded:
    storage, spec, pool = field.image_field.storage, extractor.spec, get_pool()
    return [(c, pool.submit(storage, c.picture.image, spec)) for c in claimed]


def _infer(field: EmbeddingField, extractor: Extractor, decoded: Decoded) -> Report:
    report = Report()
    ready: list[tuple[Claim, NDArray[np.uint8]]] = []
    for claimed, future in decoded:
        try:
            ready.append((claimed, future.result()))
        except ImageRefused as e:
            _refuse(field, claimed, e.code, str(e), report)
        except FileNotFoundError:
            _refuse(field, claimed, "missing_file", f"The storage has no file {claimed.picture.image!r}.", report)
        except DecoderLost as e:
            _fail(field, claimed, e.code, str(e), report)
        except Exception as e:
            # The storage may be down; that is not this picture's fault.
            logger.warning("visual search: can't read %s of %s: %s", claimed.picture.image, field.label, e)
            claims.release(field, [claimed], f"The storage failed: {e}", after=conf.LEASE_SECONDS)
            report.failed += 1
            report.reasons["storage"] += 1
    if ready:
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
    except (ExtractorUnavailable, DatabaseFailure):
        _try_release(field, claimed)  # nothing to do with these pictures
        raise
    except Exception as e:
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


def _check(vectors: NDArray[np.float32], count: int, dimensions: int) -> None:
    if vectors.shape != (count, dimensions):
        raise ValueError(f"The extractor gave an array of shape {vectors.shape}; ({count}, {dimensions}) was asked for.")
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
        logger.info("visual search: claims on %s not given back; they end with their lease", field.label)
