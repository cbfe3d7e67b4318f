"""Feedback of the last days as small bar charts, one for each kind of event: plain figures for a template's SVG."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncDate
from django.utils import timezone

from ..models import Feedback
from .slow import kept_if_slow

DAYS = 30
STEP, BAR, HEIGHT = 10, 7, 44
"""Width of a day and of its bar, and height of the tallest bar, in the SVG's own units."""
LEAST = 1.5
"""Height of a bar that stands for one event among thousands: it must be seen."""


@dataclass(frozen=True)
class Bar:
    day: datetime.date
    count: int
    x: int
    y: float
    height: float


@dataclass(frozen=True)
class Row:
    """One kind of event; ``share``: events per showing, in percent, where anything was shown."""

    kind: str
    label: Any
    total: int
    most: int
    share: float | None
    bars: list[Bar]


@dataclass(frozen=True)
class Plot:
    rows: list[Row]
    first: datetime.date
    last: datetime.date
    width: int = DAYS * STEP
    height: int = HEIGHT
    bar: int = BAR

    @property
    def total(self) -> int:
        return sum(row.total for row in self.rows)


def feedback_plot(today: datetime.date | None = None) -> Plot:
    """The last DAYS days, today included, in the current time zone: one query."""
    last = today or timezone.localdate()
    first = last - datetime.timedelta(days=DAYS - 1)
    counts = kept_if_slow(f"feedback.{first}.{timezone.get_current_timezone_name()}", partial(_count, first, last))
    shown = sum(count for (kind, _), count in counts.items() if kind == Feedback.Kind.IMPRESSION)
    days = [first + datetime.timedelta(days=n) for n in range(DAYS)]
    rows = [
        _row(kind, label, [(day, counts.get((kind, day), 0)) for day in days], shown)
        for kind, label in Feedback.Kind.choices
    ]
    return Plot(rows, first, last)


def _count(first: datetime.date, last: datetime.date) -> dict[tuple[str, datetime.date], int]:
    """Events by kind and day."""
    since, before = (
        timezone.make_aware(datetime.datetime.combine(day, datetime.time.min))
        for day in (first, last + datetime.timedelta(days=1))
    )
    events = Feedback.objects.filter(created_at__gte=since, created_at__lt=before)
    counted = events.values_list("kind", TruncDate("created_at")).annotate(count=Count("*")).order_by()
    return {(kind, day): count for kind, day, count in counted}


def _row(kind: str, label: Any, counts: list[tuple[datetime.date, int]], shown: int) -> Row:
    total, most = sum(count for _, count in counts), max(count for _, count in counts)
    bars = []
    for n, (day, count) in enumerate(counts):
        height = max(LEAST, round(HEIGHT * count / most, 1)) if count else 0.0
        bars.append(Bar(day, count, n * STEP + (STEP - BAR) // 2, round(HEIGHT - height, 1), height))
    share = 100 * total / shown if shown and kind != Feedback.Kind.IMPRESSION else None
    return Row(kind, label, total, most, share, bars)
