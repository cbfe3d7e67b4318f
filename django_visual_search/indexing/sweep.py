"""Finds everything that is stale and embeds it: the truth behind the signals' fast path."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from django.db import router
from django.utils import timezone

from ..conf import conf
from ..fields import EmbeddingField
from ..models import IndexingAttempt, IndexingRun
from .batches import batched
from .claims import quarantine_lost
from .pipeline import embed
from .pruning import prune
from .rebuilding import rebuild_lost
from .report import Report
from .runs import Run
from .settling import settle
from .stale import pending, stale

logger = logging.getLogger("django_visual_search")


def pending_keys(field: EmbeddingField, *, page: int = 1000) -> Iterator[Any]:
    """Primary keys of pending rows in key order, read page by page, so that what is done meanwhile is not visited."""
    last = None
    while True:
        rows = pending(field).order_by("pk")
        if last is not None:
            rows = rows.filter(pk__gt=last)
        keys = list(rows.values_list("pk", flat=True)[:page])
        yield from keys
        if len(keys) < page:
            return
        last = keys[-1]


def sweep(field: EmbeddingField, *, seconds: float | None = None) -> Report:
    """Quarantine what killed its workers, forget attempts at rows that are gone, and embed what is pending.

    Builds the ANN index again that a killed ``reindex_embeddings`` left dropped, and stops embedding after the batch in
    which ``seconds`` have passed. Safe to run at the same time in several processes: claims share the work.
    """
    report = Report(quarantined=quarantine_lost(field))
    forget_needless(field)
    until = None if seconds is None else time.monotonic() + seconds

    def keys() -> Iterator[Any]:
        for key in pending_keys(field):
            if until is not None and time.monotonic() > until:
                return
            yield key

    run = Run(field, IndexingRun.Kind.SWEEP)
    with contextlib.closing(embed(field, keys())) as steps:
        for step in steps:
            report.add(step)
            run.show(report)
    run.finish(report)
    settle(field)
    prune(field)
    for name in rebuild_lost(field):
        logger.warning("visual search: %s: built index %s, which a killed reindex had left dropped", field.label, name)
    return report


def forget_needless(field: EmbeddingField) -> None:
    """Drop attempts whose row is gone, has no picture any more, or has its vector."""
    ended = IndexingAttempt.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    ended = ended.filter(leased_until__lte=timezone.now())
    to_python = field.target_model._meta.pk.to_python
    ids = list(ended.values_list("object_id", flat=True))
    for page in batched(ids, 1000):
        needed = {str(pk) for pk in stale(field).filter(pk__in=map(to_python, page)).values_list("pk", flat=True)}
        ended.filter(object_id__in=set(page) - needed).delete()


def sweep_seconds() -> float:
    """How long one sweep may go on; the next one comes every ``SWEEP_SECONDS``."""
    return 10.0 * conf.SWEEP_SECONDS
