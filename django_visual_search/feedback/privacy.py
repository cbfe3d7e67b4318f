"""Privacy: export and erase one person's data, and purge old data.

``sessions_of_user`` returns a user's pseudonyms, which ``personal_data`` and ``erase`` take. ``purge`` deletes data
older than ``FEEDBACK_DAYS``; each sweep deletes some of it (``purge_some``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connections, models, router, transaction
from django.utils import timezone

from ..conf import conf
from ..db.rows import all_rows
from ..models import Evidence, Feedback, SearchLog
from .evidence import EVENTS, add_to_evidence
from .sessions import possible_sessions, user_identity

CHUNK = 5_000
"""Rows of one statement, so that no lock is held and no transaction is open for long."""
CHUNKS_OF_A_SWEEP = 4
EVIDENCE_SECONDS = 3600
"""Seconds between two looks of a sweeping process for old evidence, each of which reads the whole table."""
ROUNDING_ERROR = 1e-6
"""Looks, and gain, below which a row of evidence is an error of rounding."""


def sessions_of_user(pk: Any) -> list[str]:
    """Return every pseudonym that a user may have in the tables; the user's own row may be gone.

    Raise ValueError where ``pk`` can't be a user's primary key.
    """
    try:
        pk = get_user_model()._meta.pk.to_python(pk)
    except ValidationError as e:
        raise ValueError(f"{pk!r} is not a primary key of a user.") from e
    now = timezone.now()
    oldest = [now]
    for model in (Feedback, SearchLog):
        first = model.objects.order_by("created_at").values_list("created_at", flat=True).first()
        oldest += [first] if first else []
    return possible_sessions([user_identity(pk)], min(oldest), now + timedelta(days=1))


def personal_data(sessions: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the events and searches of these pseudonyms, oldest first, as JSON-serialisable data."""
    sessions = list(sessions)
    events = Feedback.objects.filter(session__in=sessions).order_by("created_at", "id").select_related("content_type")
    searches = SearchLog.objects.filter(session__in=sessions).order_by("created_at", "id")
    return {
        "events": [
            {
                "kind": event.kind,
                "at": event.created_at.isoformat(),
                "product": {"model": ".".join(event.content_type.natural_key()), "pk": event.object_id},
                "search": str(event.search) if event.search else None,
                "query": {"kind": event.query_kind, "product": event.query_id},
                "rank": event.rank,
                "similarity": event.similarity,
                "field": event.label,
                "session": event.session,
            }
            for event in events
        ],
        "searches": [
            {
                "id": str(row.id),
                "at": row.created_at.isoformat(),
                "query": {"kind": row.kind, "product": row.query_id},
                "surface": row.surface,
                "results": row.results,
                "best_similarity": row.best_similarity,
                "milliseconds": row.milliseconds,
                "field": row.label,
                "vector": _vector_numbers(row.vector),
                "session": row.session,
            }
            for row in searches
        ],
    }


def _vector_numbers(vector: Any) -> list[float] | None:
    # pgvector returns lists from 0.5 on, and objects of its own before.
    return vector.to_list() if hasattr(vector, "to_list") else vector


def erase(sessions: Iterable[str], *, chunk: int = CHUNK) -> dict[str, int]:
    """Delete the events and searches of these pseudonyms, and subtract the events from the evidence.

    Return how many events and searches there were.
    """
    sessions = list(sessions)
    erased = {"events": 0, "searches": 0}
    # All keys at once: for each chunk by id, PostgreSQL may walk through everybody's events.
    keys = sorted(Feedback.objects.filter(session__in=sessions).order_by().values_list("id", flat=True))
    for start in range(0, len(keys), chunk):
        erased["events"] += _erase_events(keys[start : start + chunk])
    erased["searches"], _ = SearchLog.objects.filter(session__in=sessions).delete()
    if erased["events"]:
        Evidence.objects.filter(exposure__lt=ROUNDING_ERROR, gain__lt=ROUNDING_ERROR).delete()
    return erased


def _erase_events(keys: list[int]) -> int:
    using = router.db_for_write(Feedback)
    with transaction.atomic(using=using):
        # Locked in this order, so that two transactions can't deadlock.
        rows = Feedback.objects.using(using).filter(id__in=keys).order_by("id")
        list(rows.select_for_update(of=["self"]).values_list("id"))
        with connections[using].cursor() as cursor:
            cursor.execute(_ERASE.format(written=add_to_evidence("gone", sign=-1)), [keys, timezone.now()])
            (count,) = cursor.fetchone()
    return int(count)


_ERASE = f"""
WITH gone AS (
    DELETE FROM {EVENTS} WHERE id = ANY(%s)
    RETURNING content_type_id, object_id, query_kind, query_id, created_at, gain, exposure
), {{written}}
SELECT count(*) FROM gone
"""


def purge(days: int | None = None, *, chunk: int = CHUNK) -> dict[str, int]:
    """Delete data older than ``days`` (``FEEDBACK_DAYS``). Return how many events, searches and evidence rows.

    Evidence is deleted when all the events in it are that old. Raise ValueError for fewer than 0 days.
    """
    days = conf.FEEDBACK_DAYS if days is None else days
    if days < 0:
        raise ValueError(f"The number of days can't be {days}.")
    before = timezone.now() - timedelta(days=days)
    return {
        "events": _delete(Feedback, "created_at", before, chunk),
        "searches": _delete(SearchLog, "created_at", before, chunk),
        "evidence": _delete(Evidence, "as_of", before, chunk),
    }


_evidence_purged = -math.inf  # time.monotonic()


def purge_some(*, chunk: int = CHUNK, evidence_seconds: float = EVIDENCE_SECONDS) -> None:
    """Delete a few chunks of old data, so that sweeps alone keep to ``FEEDBACK_DAYS``."""
    global _evidence_purged
    before = timezone.now() - timedelta(days=conf.FEEDBACK_DAYS)
    _delete(Feedback, "created_at", before, chunk, CHUNKS_OF_A_SWEEP)
    _delete(SearchLog, "created_at", before, chunk, CHUNKS_OF_A_SWEEP)
    if time.monotonic() - _evidence_purged >= evidence_seconds:
        _evidence_purged = time.monotonic()
        _delete(Evidence, "as_of", before, chunk, CHUNKS_OF_A_SWEEP)


def _delete(model: type[models.Model], column: str, before: datetime, chunk: int, most: float = math.inf) -> int:
    """Delete the rows of that time, ``most`` chunks of them, and return how many there were."""
    rows = all_rows(model, router.db_for_write(model)).filter(**{f"{column}__lt": before})
    deleted, chunks = 0, 0
    while chunks < most:
        keys = list(rows.order_by(column).values_list("pk", flat=True)[:chunk])
        # The filter applies again, as evidence may have been added since.
        deleted += rows.filter(pk__in=keys).delete()[0] if keys else 0
        chunks += 1
        if len(keys) < chunk:
            break
    return deleted
