"""Evidence: the gain and exposure that events add up to for each product and query product, fading with time.

``aggregate`` counts each event exactly once. ``contributions`` is the SQL for one event's part, within the limits of
one visitor; ``add_to_evidence`` the SQL that adds events to the evidence, or takes them away. How it
fades is in ``ranking.reading``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connections, router, transaction
from django.utils import timezone

from ..conf import conf
from ..models import Evidence, Feedback
from ..ranking.reading import faded
from .events import NETWORK_PRODUCT_SESSIONS, NETWORK_SESSIONS, PRODUCT_GAIN, SESSION_GAIN, WORTH, Kind

EVENTS = f'"{Feedback._meta.db_table}"'
_EVIDENCE = f'"{Evidence._meta.db_table}"'
_SHOP_KINDS = (Kind.PURCHASE, Kind.RETURN)

BATCH = 5_000
"""Events in one transaction."""


def aggregate(now: datetime | None = None, *, batch: int = BATCH) -> int:
    """Count new events into the evidence as of ``now``, ``batch`` in a transaction, and return how many there were.

    Several processes may do so at once: each skips the events that another has locked.
    """
    done = 0
    while True:
        counted = _count_some(now or timezone.now(), batch)
        done += counted
        if counted < batch:
            return done


def _count_some(now: datetime, most: int) -> int:
    using = router.db_for_write(Feedback)
    with transaction.atomic(using=using):
        rows = Feedback.objects.using(using).filter(counted=False).order_by("id")
        rows = rows.select_for_update(skip_locked=True)
        new = list(rows.values_list("id", "session", "network")[:most])
        if not new:
            return 0
        ids = [row[0] for row in new]
        sessions, networks = ({row[i] for row in new} - {""} for i in (1, 2))
        with connections[using].cursor() as cursor:
            cursor.execute(_count_statement(), [list(sessions), list(networks), ids, ids, now])
    return len(new)


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
    """Return CTEs that add events to the evidence (``sign`` -1: take them away) as of a moment, their parameter.

    Rows are written in the order of their keys, so that two transactions can't deadlock.
    """
    return f"""
    sums AS (
        SELECT t.app_label || '.' || t.model AS model, keys.query_id, e.object_id,
               sum(e.gain * fading.part) AS gain, sum(e.exposure * fading.part) AS exposure, moment.at
        FROM {events} AS e
        JOIN django_content_type AS t ON t.id = e.content_type_id
        CROSS JOIN (SELECT %s::timestamptz) AS moment (at)
        CROSS JOIN LATERAL (SELECT {faded("e.created_at", "moment.at")}) AS fading (part)
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
            gain = old.gain * {faded("old.as_of", "greatest(old.as_of, excluded.as_of)")}
                 + excluded.gain * {faded("excluded.as_of", "greatest(old.as_of, excluded.as_of)")},
            exposure = old.exposure * {faded("old.as_of", "greatest(old.as_of, excluded.as_of)")}
                 + excluded.exposure * {faded("excluded.as_of", "greatest(old.as_of, excluded.as_of)")},
            as_of = greatest(old.as_of, excluded.as_of)
    )"""


def contributions() -> str:
    """Return CTEs that end in ``worth (id, gain, exposure)`` for some events.

    Parameters, all arrays: the sessions of these events, their networks, their ids, and their ids again.

    - gain: the event's ``WORTH``, as far as the session's sum for the product stays within its bounds.
    - exposure: of an impression, the chance that its rank is looked at, rank ** -POSITION_BIAS (as in Joachims et al.,
      2017, "Unbiased learning-to-rank with biased feedback"); 1 where the rank is unknown.
    - Both are 0 without a search behind the event, once the session has used up its gain, and for sessions of a network
      that has had its share.

    An event's part depends only on the events before it (by id), counted or not, so the order of counting doesn't
    matter. There are no joins, which PostgreSQL would plan badly without statistics.
    """
    return f"""
    history AS (
        SELECT id, kind, rank, query_kind, session, network, content_type_id, object_id,
            CASE WHEN query_kind = '' THEN 0 ELSE {_worth(browser=True)} END AS worth,
            min(id) OVER (PARTITION BY network, session) AS first_of_session,
            min(id) OVER (PARTITION BY network, session, content_type_id, object_id) AS first_of_product
        FROM {EVENTS} WHERE session = ANY(%s) OR network = ANY(%s) OR id = ANY(%s)
    ),
    summed AS (
        SELECT *,
            sum(worth) OVER (PARTITION BY session, content_type_id, object_id ORDER BY id) AS total,
            dense_rank() OVER (PARTITION BY network ORDER BY first_of_session) AS seat,
            dense_rank() OVER (
                PARTITION BY network, content_type_id, object_id ORDER BY first_of_product
            ) AS product_seat
        FROM history
    ),
    bounded AS (
        SELECT *, {_clip("total")} - {_clip("total - worth")} AS bounded_gain FROM summed
    ),
    budgeted AS (
        SELECT *, coalesce(sum(abs(bounded_gain)) OVER (
            PARTITION BY session ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS used FROM bounded
    ),
    judged AS (
        SELECT *, (session = '' OR used < {SESSION_GAIN!r}) AND (network = '' OR (
            seat <= {NETWORK_SESSIONS} AND product_seat <= {NETWORK_PRODUCT_SESSIONS}
        )) AS counts FROM budgeted WHERE id = ANY(%s)
    ),
    worth AS (
        SELECT id,
            CASE WHEN query_kind = '' THEN 0
                 WHEN kind IN ({", ".join(f"'{kind.value}'" for kind in _SHOP_KINDS)}) THEN {_worth(browser=False)}
                 WHEN NOT counts THEN 0
                 WHEN session = '' THEN worth
                 ELSE bounded_gain END AS gain,
            CASE WHEN kind = '{Kind.IMPRESSION.value}' AND query_kind <> '' AND counts
                 THEN power(greatest(1, coalesce(rank, 1))::float8, {-float(conf.POSITION_BIAS)!r}::float8)
                 ELSE 0 END AS exposure
        FROM judged
    )"""


def _worth(*, browser: bool) -> str:
    kinds: dict[Any, float] = {kind: worth for kind, worth in WORTH.items() if (kind not in _SHOP_KINDS) == browser}
    whens = " ".join(f"WHEN '{kind.value}' THEN {worth!r}::float8" for kind, worth in kinds.items())
    return f"CASE kind {whens} ELSE 0 END"


def _clip(total: str) -> str:
    return f"greatest({WORTH[Kind.SKIP]!r}, least({PRODUCT_GAIN!r}, {total}))"
