"""Sums events up into the evidence that rankings work from: each exactly once, and fading with time."""

from __future__ import annotations

from datetime import datetime

from django.db import connections, router, transaction
from django.utils import timezone

from ..conf import conf
from ..models import Evidence, Feedback
from .contributions import EVENTS, contributions

BATCH = 5_000
"""Events in one transaction."""
MOST_HALVINGS = 200
"""PostgreSQL raises an error where a product is too small for a float, and a sum is halved again at every count."""

_EVIDENCE = f'"{Evidence._meta.db_table}"'


def aggregate(now: datetime | None = None) -> int:
    """Count the events that have not been counted into the evidence as of ``now``; returns how many there were.

    Several processes may do so at once: an event that one of them has is passed over by the others.
    """
    done = 0
    while True:
        counted = _count_some(now or timezone.now())
        done += counted
        if counted < BATCH:
            return done


def _count_some(now: datetime) -> int:
    using = router.db_for_write(Feedback)
    with transaction.atomic(using=using):
        rows = Feedback.objects.using(using).filter(counted=False).order_by("id")
        rows = rows.select_for_update(skip_locked=True)
        fresh = list(rows.values_list("id", "session", "network")[:BATCH])
        if not fresh:
            return 0
        ids = [row[0] for row in fresh]
        sessions, networks = ({row[i] for row in fresh} - {""} for i in (1, 2))
        with connections[using].cursor() as cursor:
            cursor.execute(_count_statement(), [list(sessions), list(networks), ids, ids, now])
    return len(fresh)


def _count_statement() -> str:
    return f"""
    WITH {contributions()},
    marked AS (
        UPDATE {EVENTS} AS e SET counted = true, gain = worth.gain, exposure = worth.exposure
        FROM worth WHERE e.id = worth.id
        RETURNING e.content_type_id, e.object_id, e.query_kind, e.query_id, e.created_at, e.gain, e.exposure
    ), {add_to_evidence("marked", sign=1)}
    SELECT count(*) FROM marked
    """


def add_to_evidence(events: str, sign: int) -> str:
    """CTEs that add (or take away, with ``sign`` -1) events to the evidence as of a moment, the statement's parameter.

    Rows are written in the order of their keys, so that two who do so can't wait for each other in a circle.
    """
    return f"""
    sums AS (
        SELECT t.app_label || '.' || t.model AS model, keys.query_id, e.object_id,
               sum(e.gain * fading.part) AS gain, sum(e.exposure * fading.part) AS exposure, moment.at
        FROM {events} AS e
        JOIN django_content_type AS t ON t.id = e.content_type_id
        CROSS JOIN (SELECT %s::timestamptz) AS moment (at)
        CROSS JOIN LATERAL (SELECT {_faded("e.created_at", "moment.at")}) AS fading (part)
        CROSS JOIN LATERAL (
            SELECT '' UNION ALL SELECT e.query_id WHERE e.query_kind = 'product' AND e.query_id <> ''
        ) AS keys (query_id)
        WHERE e.gain <> 0 OR e.exposure <> 0
        GROUP BY t.app_label, t.model, keys.query_id, e.object_id, moment.at
    ),
    written AS (
        INSERT INTO {_EVIDENCE} AS old (model, query_id, object_id, gain, exposure, as_of)
        SELECT model, query_id, object_id, {sign} * gain, {sign} * exposure, at FROM sums
        ORDER BY model, query_id, object_id
        ON CONFLICT (model, query_id, object_id) DO UPDATE SET
            gain = old.gain * {_faded("old.as_of", "greatest(old.as_of, excluded.as_of)")}
                 + excluded.gain * {_faded("excluded.as_of", "greatest(old.as_of, excluded.as_of)")},
            exposure = old.exposure * {_faded("old.as_of", "greatest(old.as_of, excluded.as_of)")}
                 + excluded.exposure * {_faded("excluded.as_of", "greatest(old.as_of, excluded.as_of)")},
            as_of = greatest(old.as_of, excluded.as_of)
    )"""


def _faded(since: str, until: str) -> str:
    """SQL: what is left at ``until`` of 1 at ``since``; never so little that PostgreSQL refuses the number."""
    halvings = f"extract(epoch FROM {until} - {since})::float8 / {conf.HALF_LIFE_DAYS * 86400.0!r}"
    return f"power(0.5::float8, least({MOST_HALVINGS}, greatest(0, {halvings})))"
