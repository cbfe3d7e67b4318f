"""The benefit of visual search, for the dashboard and as CSV: searches, clicks and purchases of the last days.

``usage_context`` turns the figures of ``feedback.figures`` into rows with names; ``usage_csv`` gives the response that
downloads them. ``bars_of`` makes bars by day, which the pages draw in SVG without a script.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import router
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from ..conf import conf
from ..feedback.figures import Responses, Searches, Usage, csv_rows, usage
from ..models import EmbeddingHead, RankingRule, SearchLog
from ..spaces.heads import serving_extractor_key
from .base import cached_if_slow
from .rules import rule_name

DAYS = 30
STEP, BAR, HEIGHT = 10, 7, 44
"""Width of a day and of its bar, and height of the tallest bar, in the SVG's own units."""
LEAST_HEIGHT = 1.5
"""Least height of a bar, so that one event among thousands is visible."""
MOST_RULES = 10
"""Rules in the table, of the most seen hits."""
CSV_DAYS = 365


@dataclass(frozen=True)
class PlotBar:
    day: datetime.date
    count: int
    x: int
    y: float
    height: float


def bars_of(counts: Sequence[tuple[datetime.date, int]]) -> list[PlotBar]:
    """Return a bar for each day, the tallest of HEIGHT."""
    most = max((count for _day, count in counts), default=0)
    bars = []
    for n, (day, count) in enumerate(counts):
        height = max(LEAST_HEIGHT, round(HEIGHT * count / most, 1)) if count else 0.0
        bars.append(PlotBar(day, count, n * STEP + (STEP - BAR) // 2, round(HEIGHT - height, 1), height))
    return bars


@dataclass(frozen=True)
class SurfaceRow:
    name: str
    searches: Searches
    did: Responses
    bars: list[PlotBar]


def last_days(days: int) -> tuple[datetime.date, datetime.date]:
    """Return the first and the last of the last days, today included."""
    last = timezone.localdate(datetime.datetime.now(datetime.UTC))
    return last - datetime.timedelta(days=days - 1), last


def usage_context(fields: list[Any]) -> dict[str, Any]:
    """Return the figures of the last DAYS days with names. ``fields``: the embedding fields, whose spaces are named."""
    first, last = last_days(DAYS)
    found: Usage = cached_if_slow(f"usage.{first}.{timezone.get_current_timezone_name()}", partial(usage, first, last))
    days = [first + datetime.timedelta(days=n) for n in range(DAYS)]
    surfaces = [*SearchLog.Surface.values, ""]
    rows = [
        SurfaceRow(
            surface_name(surface),
            found.searches.get(surface, Searches()),
            found.by_surface.get(surface, Responses()),
            bars_of([(day, found.days.get((day, surface), Searches()).count) for day in days]),
        )
        for surface in surfaces
        if surface in found.searches or surface in found.by_surface
    ]
    return {
        "usage": found,
        "surfaces": rows,
        "spaces": [(name, found.by_space[key]) for key, name in _space_names(list(found.by_space), fields)],
        "rules": _rules(found),
        "logs": conf.LOG_SEARCHES,
    }


def surface_name(surface: str) -> str:
    """Return a surface in words."""
    return str(dict(SearchLog.Surface.choices).get(surface) or _("elsewhere"))


def _space_names(keys: list[str], fields: list[Any]) -> list[tuple[str, str]]:
    """Return (extractor key, name) of the spaces: a head's name, or that no head made the vectors."""
    if not keys:
        return []
    heads = dict(EmbeddingHead.objects.filter(key__in=keys).values_list("key", "name"))
    now = {serving_extractor_key(field, at_any_age=True) for field in fields}
    named = []
    for key in keys:
        name = heads.get(key) or _("no head (%(key)s)") % {"key": key or "?"}
        named.append((key, _("%(name)s, serves now") % {"name": name} if key in now else name))
    return sorted(named, key=lambda item: item[1])


def _rules(found: Usage) -> list[tuple[str, Responses]]:
    """Return (rule, what shoppers did with its hits) of the most seen ones, after the hits without a rule."""
    numbers = sorted((pk for pk in found.by_rule if pk is not None), key=lambda pk: -found.by_rule[pk].shown)
    if not numbers:
        return []
    rows = RankingRule.objects.using(router.db_for_read(RankingRule)).in_bulk(numbers[:MOST_RULES])
    listed = [
        (rule_name(rows[pk]) if pk in rows else _("a rule that was deleted"), found.by_rule[pk])
        for pk in numbers[:MOST_RULES]
    ]
    return [(_("without a rule"), found.by_rule.get(None, Responses())), *listed]


def usage_csv() -> HttpResponse:
    """Return the figures by day and surface of the last CSV_DAYS days, as a file."""
    first, last = last_days(min(CSV_DAYS, max(1, int(conf.FEEDBACK_DAYS))))
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="visual-search-{first}-{last}.csv"'
    csv.writer(response).writerows(csv_rows(usage(first, last)))
    return response
