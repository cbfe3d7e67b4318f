"""The benefit of visual search: searches, clicks and purchases of some days, by surface, by space and by rule.

Entry function: ``usage``. It reads the search log and the feedback in four queries, and no personal data.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from django.conf import settings
from django.db import connections, router
from django.db.models import Aggregate, Count, FloatField, Q
from django.db.models.functions import TruncDate
from django.utils import timezone

from ..models import Feedback, SearchLog
from .events import Kind

Day = datetime.date


class Percentile(Aggregate):
    """``percentile_cont``: the value below which this share of the values lies."""

    function = "percentile_cont"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()

    def __init__(self, expression: Any, share: float) -> None:
        super().__init__(expression, share=repr(float(share)))


@dataclass(frozen=True)
class Searches:
    """The searches of one surface; ``p50`` and ``p95`` are their milliseconds."""

    count: int = 0
    nothing: int = 0
    """Searches that found nothing."""
    p50: float | None = None
    p95: float | None = None

    @property
    def nothing_percent(self) -> float | None:
        return 100 * self.nothing / self.count if self.count else None


@dataclass(frozen=True)
class Responses:
    """Numbers of events, by ``Feedback.Kind``."""

    kinds: Counter[str] = dataclass_field(default_factory=Counter)

    @property
    def shown(self) -> int:
        return self.kinds[Kind.IMPRESSION]

    @property
    def clicks(self) -> int:
        return self.kinds[Kind.CLICK]

    @property
    def purchases(self) -> int:
        return self.kinds[Kind.PURCHASE]

    @property
    def click_percent(self) -> float | None:
        """Return the clicks for each hundred hits that were seen."""
        return 100 * self.clicks / self.shown if self.shown else None


@dataclass
class Usage:
    """The figures of the days from ``first`` to ``last``, both included. A surface is "" where it is unknown."""

    first: Day
    last: Day
    searches: dict[str, Searches] = dataclass_field(default_factory=dict)
    """By surface."""
    days: dict[tuple[Day, str], Searches] = dataclass_field(default_factory=dict)
    by_surface: dict[str, Responses] = dataclass_field(default_factory=dict)
    by_day: dict[tuple[Day, str], Responses] = dataclass_field(default_factory=dict)
    by_space: dict[str, Responses] = dataclass_field(default_factory=dict)
    """By extractor key."""
    by_rule: dict[int | None, Responses] = dataclass_field(default_factory=dict)
    """By primary key of the rule that gave the hit its place; None for hits without one."""
    purchases: int = 0
    """All purchases that were recorded."""

    @property
    def attributed(self) -> int:
        """Return the purchases of products that the same visitor had clicked on in a search."""
        return sum(one.purchases for one in self.by_surface.values())

    @property
    def total(self) -> int:
        return sum(one.count for one in self.searches.values())


def usage(first: Day, last: Day) -> Usage:
    """Return the figures of these days, in the current time zone."""
    found = Usage(first, last)
    since, before = (_midnight(day) for day in (first, last + datetime.timedelta(days=1)))
    rows = SearchLog.objects.filter(created_at__gte=since, created_at__lt=before).order_by()
    counts = {"count": Count("*"), "nothing": Count("pk", filter=Q(results=0))}
    times = {"p50": Percentile("milliseconds", 0.5), "p95": Percentile("milliseconds", 0.95)}
    for surface, *values in rows.values_list("surface").annotate(**counts, **times):
        found.searches[surface] = Searches(*values)
    by_day = rows.values_list(TruncDate("created_at"), "surface").annotate(**counts, **times)
    for day, surface, *values in by_day:
        found.days[day, surface] = Searches(*values)
    _add_responses(found, since, before)
    bought = Feedback.objects.filter(created_at__gte=since, created_at__lt=before, kind=Kind.PURCHASE)
    found.purchases = bought.count()
    return found


RESPONSES = """
SELECT surface, space, rule, day, kind, count(*), grouping(space), grouping(rule), grouping(day)
FROM (
    SELECT coalesce(s.surface, '') AS surface, f.extractor_key AS space, f.rule, {day} AS day, f.kind
    FROM {feedback} f LEFT JOIN {searches} s ON s.id = f.search
    WHERE f.created_at >= %s AND f.created_at < %s AND f.query_kind <> ''
) AS events GROUP BY GROUPING SETS ((surface, kind), (space, kind), (rule, kind), (day, surface, kind))
"""


def _add_responses(found: Usage, since: datetime.datetime, before: datetime.datetime) -> None:
    """Add the shoppers' events: one pass over the events that a search led to."""
    connection = connections[router.db_for_read(Feedback)]
    tzname = timezone.get_current_timezone_name()
    day, params = connection.ops.datetime_cast_date_sql("f.created_at", (), tzname)
    sql = RESPONSES.format(day=day, feedback=Feedback._meta.db_table, searches=SearchLog._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(sql, [*params, since, before])
        rows = cursor.fetchall()
    for surface, space, rule, of_day, kind, count, no_space, no_rule, no_day in rows:
        if not no_space:
            _responses(found.by_space, space).kinds[kind] += count
        elif not no_rule:
            _responses(found.by_rule, rule).kinds[kind] += count
        elif not no_day:
            _responses(found.by_day, (of_day, surface)).kinds[kind] += count
        else:
            _responses(found.by_surface, surface).kinds[kind] += count


def _responses(found: dict[Any, Responses], key: Any) -> Responses:
    return found.setdefault(key, Responses())


def _midnight(day: Day) -> datetime.datetime:
    midnight = datetime.datetime.combine(day, datetime.time.min)
    return timezone.make_aware(midnight) if settings.USE_TZ else midnight


def csv_rows(found: Usage) -> list[list[Any]]:
    """Return the figures by day and surface, the names of the columns first; numbers as they are."""
    names = ["day", "surface", "searches", "nothing_found", "p50_ms", "p95_ms", "shown", "clicks", "purchases"]
    rows: list[list[Any]] = [names]
    for day, surface in sorted({*found.days, *found.by_day}):
        searches = found.days.get((day, surface), Searches())
        did = found.by_day.get((day, surface), Responses())
        times = [None if time is None else round(time, 1) for time in (searches.p50, searches.p95)]
        named = [day.isoformat(), surface or "unknown"]
        rows.append([*named, searches.count, searches.nothing, *times, did.shown, did.clicks, did.purchases])
    return rows
