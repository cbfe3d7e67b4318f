"""Feedback of the last days as small bar charts, one for each kind of event: plain figures for a template's SVG.

Figures of one embedding field for the dashboard.

The dashboard: how far the vectors are, what searches run on, what shoppers do with what they find.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from celery import current_app
from django.apps import apps
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import router
from django.db.models import Count
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ..conf import conf
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.registry import embedding_fields
from ..indexing.status import NO_PICTURE, State, pictures
from ..models import Dashboard, Feedback, IndexingAttempt, IndexingRun
from ..spaces.heads import wanted_extractor, wanted_extractor_key
from .ann_facts import AnnFacts, ann_facts, kept_if_slow
from .base import BREADCRUMB_LIST, ReadOnlyAdmin
from .mixin import VisualSearchAdminMixin

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
    counts = kept_if_slow(
        f"feedback.{first}.{timezone.get_current_timezone_name()}", partial(_count_events, first, last)
    )
    shown = sum(count for (kind, _), count in counts.items() if kind == Feedback.Kind.IMPRESSION)
    days = [first + datetime.timedelta(days=n) for n in range(DAYS)]
    rows = [
        _row(kind, label, [(day, counts.get((kind, day), 0)) for day in days], shown)
        for kind, label in Feedback.Kind.choices
    ]
    return Plot(rows, first, last)


def _count_events(first: datetime.date, last: datetime.date) -> dict[tuple[str, datetime.date], int]:
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


@dataclass(frozen=True)
class Progress:
    """A sweep or reindex as it was last heard of."""

    run: IndexingRun

    @property
    def running(self) -> bool:
        """Whether it goes on, as far as can be told: it says something at least once in two leases."""
        silent = timezone.now() - self.run.updated_at
        return self.run.finished_at is None and silent < timedelta(seconds=2 * conf.LEASE_SECONDS)

    @property
    def through(self) -> int:
        return self.run.done + self.run.failed

    @property
    def percent(self) -> int | None:
        """None where the pictures were not counted."""
        return min(100, 100 * self.through // self.run.total) if self.run.total else None

    @property
    def seconds(self) -> float:
        return max((self.run.updated_at - self.run.started_at).total_seconds(), 0.0)

    @property
    def rate(self) -> float:
        """Pictures a second, since the start."""
        return self.through / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> timedelta | None:
        """Time to the end at this rate, where both are known."""
        if self.run.total is None or not self.rate:
            return None
        return timedelta(seconds=round(max(0, self.run.total - self.through) / self.rate))


@dataclass(frozen=True)
class Figures:
    field: EmbeddingField
    counts: dict[str, int]
    """Pictures by State."""
    without_picture: int
    """Rows whose picture column is empty."""
    extractor_key: str
    problem: str
    """Why the extractor can't run here; empty where it can."""
    ann: AnnFacts | None
    sweep: Progress | None
    command: Progress | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def current(self) -> int:
        return self.counts[State.CURRENT]

    @property
    def percent(self) -> float:
        """Share of the pictures that have their vector; rounded down, so that 100 means all."""
        return 1000 * self.current // self.total / 10 if self.total else 0.0


def figures(field: EmbeddingField) -> Figures:
    """One query counts, whatever the number of rows; a few small ones say the rest."""
    counts: dict[str, int] = dict.fromkeys(State, 0)
    key, problem, without, found = "", "", 0, None
    try:
        key = wanted_extractor_key(field)
        problem = _problem(field)
        counted = dict(kept_if_slow(f"counts.{field.label}.{key}", partial(_count_states, field)))
        without = counted.pop(NO_PICTURE, 0)
        counts.update(counted)
        found = ann_facts(field)
    except ImproperlyConfigured as e:
        problem = str(e)
    runs = IndexingRun.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    progress = {run.kind: Progress(run) for run in runs}
    return Figures(
        field,
        counts,
        without,
        key,
        problem,
        found,
        progress.get(IndexingRun.Kind.SWEEP),
        progress.get(IndexingRun.Kind.COMMAND),
    )


def _problem(field: EmbeddingField) -> str:
    """Why the extractor can't run here, if so."""
    try:
        return wanted_extractor(field).missing() or ""
    except ExtractorUnavailable as e:
        return str(e)


def _count_states(field: EmbeddingField) -> dict[str, int]:
    return dict(pictures(field).values_list("visual_state").annotate(count=Count("*")).order_by())


RELOAD_SECONDS = 5
"""While a reindex runs, the page loads anew so often."""
SETTLED = {State.REFUSED, State.QUARANTINED}
"""States of IndexingAttempt too: there the pictures themselves are listed, with the reasons."""


@admin.register(Dashboard)
class DashboardAdmin(ReadOnlyAdmin):
    """A page in place of a list of rows."""

    def get_urls(self) -> list[Any]:
        """Only the page itself: there are no rows to look at."""
        return [url for url in super().get_urls() if str(url.name or "").endswith("_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        found = [figures(field) for field in embedding_fields()]
        running = any(fields.command is not None and fields.command.running for fields in found)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Visual search dashboard"),
            "here": _("Dashboard"),
            "subtitle": None,
            "opts": self.opts,
            "fields": [(fields, self._states(request, fields)) for fields in found],
            "plot": feedback_plot(),
            "inline": current_app.conf.task_always_eager,
            "searches": self._searches(request),
            "reload_seconds": RELOAD_SECONDS if running else None,
            "breadcrumb_list": BREADCRUMB_LIST,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "visual_search/admin/dashboard.html", context)

    def _states(self, request: HttpRequest, fields: Figures) -> list[dict[str, Any]]:
        """Count, share and way to the list for each state; of a bar, so that the parts add up to its width."""
        rows, x = [], 0.0
        for state in State:
            count = fields.counts[state]
            width = 1000 * count / fields.total if fields.total else 0.0
            address = self._list_of(request, fields, state)
            rows.append({"state": state, "count": count, "x": x, "width": width, "address": address})
            x += width
        return rows

    def _list_of(self, request: HttpRequest, fields: Figures, state: State) -> str:
        """Where the pictures, or their products, in this state are listed; empty where the user may not see them."""
        if state in SETTLED and self._may_see(request, IndexingAttempt):
            query = {"label": fields.field.label, "state": state.value}
            return f"{self._address(IndexingAttempt, 'changelist')}?{urlencode(query)}"
        model = fields.field.product_model
        if self._has_mixin(model) and self._may_see(request, model):
            return f"{self._address(model, 'changelist')}?{urlencode({'visual_search': state.value})}"
        return ""

    def _searches(self, request: HttpRequest) -> list[tuple[Any, str]]:
        """(name, address) of the pages on which this user may search by photo."""
        return [
            (model._meta.verbose_name_plural, self.admin_site.get_model_admin(model).visual_search_address)
            for model in apps.get_models()
            if self._has_mixin(model) and self._may_see(request, model)
        ]

    def _has_mixin(self, model: Any) -> bool:
        registered = self.admin_site.is_registered(model)
        return registered and isinstance(self.admin_site.get_model_admin(model), VisualSearchAdminMixin)

    def _may_see(self, request: HttpRequest, model: Any) -> bool:
        registered = self.admin_site.is_registered(model)
        return registered and self.admin_site.get_model_admin(model).has_view_or_change_permission(request)

    def _address(self, model: Any, page: str) -> str:
        opts = model._meta
        try:
            return reverse(f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_{page}")
        except NoReverseMatch:
            return ""
