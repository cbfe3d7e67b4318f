"""Forgetting: events and searches that have been kept long enough, and evidence that nothing was added to since."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import models, router
from django.utils import timezone

from ..conf import conf
from ..models import Evidence, Feedback, SearchLog

CHUNK = 5_000
"""Rows of one statement, so that no lock is held and no transaction is open for long."""
CHUNKS_OF_A_SWEEP = 4
EVIDENCE_SECONDS = 3600
"""How often a process that sweeps looks for old evidence: all of the table is read for that."""

_evidence_purged: float | None = None


def purge(days: int | None = None) -> dict[str, int]:
    """Delete what is older than ``days`` (``FEEDBACK_DAYS``); returns how many events, searches and evidence rows went.

    Evidence goes when all the events in it are that old. Raises ValueError for a number of days below 0.
    """
    days = conf.FEEDBACK_DAYS if days is None else days
    if days < 0:
        raise ValueError(f"The number of days can't be {days}.")
    before = timezone.now() - timedelta(days=days)
    return {
        "events": _delete(Feedback, "created_at", before),
        "searches": _delete(SearchLog, "created_at", before),
        "evidence": _delete(Evidence, "as_of", before),
    }


def purge_some() -> None:
    """What a sweep does of it, so that nothing is kept too long where nobody runs the command."""
    global _evidence_purged
    before = timezone.now() - timedelta(days=conf.FEEDBACK_DAYS)
    _delete(Feedback, "created_at", before, CHUNKS_OF_A_SWEEP)
    _delete(SearchLog, "created_at", before, CHUNKS_OF_A_SWEEP)
    if _evidence_purged is None or time.monotonic() - _evidence_purged > EVIDENCE_SECONDS:
        _evidence_purged = time.monotonic()
        _delete(Evidence, "as_of", before, CHUNKS_OF_A_SWEEP)


def _delete(model: type[models.Model], column: str, before: datetime, chunks: int | None = None) -> int:
    rows = model._base_manager.using(router.db_for_write(model)).filter(**{f"{column}__lt": before})
    done, turns = 0, 0
    while chunks is None or turns < chunks:
        keys = list(rows.order_by(column).values_list("pk", flat=True)[:CHUNK])
        # The time is asked again: evidence may have been added to since.
        done += rows.filter(pk__in=keys).delete()[0] if keys else 0
        turns += 1
        if len(keys) < CHUNK:
            break
    return done
