"""SQL that says what each event adds to the evidence: its gain and exposure, within what one visitor may weigh."""

from __future__ import annotations

from typing import Any

from ..conf import conf
from ..models import Feedback
from .weights import NETWORK_PRODUCT_SESSIONS, NETWORK_SESSIONS, PRODUCT_GAIN, SESSION_GAIN, WORTH, Kind

EVENTS = f'"{Feedback._meta.db_table}"'
_SHOPS_OWN = (Kind.PURCHASE, Kind.RETURN)


def contributions() -> str:
    """CTEs that end in ``worth (id, gain, exposure)``, for some events.

    Parameters, all arrays: the sessions of these events, their networks, their ids, and their ids again.

    - gain: the event's worth (``weights.WORTH``), as far as the session's sum for the product stays within its bounds.
    - exposure: of an impression, the chance that its rank is looked at, rank ** -POSITION_BIAS (as in Joachims et al.,
      2017, "Unbiased learning-to-rank with biased feedback"); 1 where the rank is not known.
    - Both are 0 without a search behind it, once the session has used up its gain, and for sessions of a network that
      has had its share.

    An event's part depends on the events before it (by id) only, counted or not, so it doesn't matter when they are
    counted, and by whom. There are no joins, which PostgreSQL would plan badly for want of statistics.
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
                 WHEN kind IN ({", ".join(f"'{kind.value}'" for kind in _SHOPS_OWN)}) THEN {_worth(browser=False)}
                 WHEN NOT counts THEN 0
                 WHEN session = '' THEN worth
                 ELSE bounded_gain END AS gain,
            CASE WHEN kind = '{Kind.IMPRESSION.value}' AND query_kind <> '' AND counts
                 THEN power(greatest(1, coalesce(rank, 1))::float8, {-float(conf.POSITION_BIAS)!r}::float8)
                 ELSE 0 END AS exposure
        FROM judged
    )"""


def _worth(*, browser: bool) -> str:
    kinds: dict[Any, float] = {kind: worth for kind, worth in WORTH.items() if (kind not in _SHOPS_OWN) == browser}
    whens = " ".join(f"WHEN '{kind.value}' THEN {worth!r}::float8" for kind, worth in kinds.items())
    return f"CASE kind {whens} ELSE 0 END"


def _clip(total: str) -> str:
    return f"greatest({WORTH[Kind.SKIP]!r}, least({PRODUCT_GAIN!r}, {total}))"
