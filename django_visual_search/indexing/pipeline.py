"""Embeds pictures in batches: the next batch is read and decoded while this one is inferred and written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from django.db import Error as DatabaseFailure

from ..backends import extractor_of
from ..conf import conf
from ..decoder_pool import get_pool
from ..extractors import Extractor
from ..fields import EmbeddingField
from . import claims
from .batches import batched
from .claims import Claim, Picture
from .inference import Decoded, infer
from .lease import Lease
from .report import Report
from .stale import stale
from .writes import clear

logger = logging.getLogger("django_visual_search")


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
            report.add(infer(field, extractor, ahead, lease))
            unfinished = following
            # What an earlier attempt did not finish goes one at a time: what killed it takes nothing else along.
            for suspect in suspects:
                alone = _decode(field, extractor, _claim(field, [suspect]))
                unfinished = following + alone
                lease.hold([claimed for claimed, _ in unfinished])
                report.skipped += 1 - len(alone)
                report.add(infer(field, extractor, alone, lease))
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


def _try_release(field: EmbeddingField, claimed: list[Claim]) -> None:
    try:
        claims.release(field, claimed)
    except DatabaseFailure:
        logger.warning("visual search: claims on %s not given back; they end with their lease", field.label)
