"""The dashboard: how many pictures have vectors, whether searches use the index, and what shoppers do with hits.

``field_figures`` gathers the figures of one embedding field; ``feedback_plot`` counts the feedback of the last days for
bar charts, one for each kind of event.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from celery import current_app
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Count
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.registry import embedding_fields
from ..indexing.status import NO_PICTURE, State, picture_states
from ..models import Dashboard, EmbeddingHead, Feedback, IndexingAttempt, IndexingRun, ServingSpace
from ..spaces.heads import serving_extractor, serving_extractor_key
from .ann_index import AnnFacts, ann_facts
from .base import RELOAD_SECONDS, PageAdmin, RunProgress, cached_if_slow, field_name
from .heads import better_heads, serves
from .mixin import VisualSearchAdminMixin
from .usage import BAR, DAYS, HEIGHT, STEP, PlotBar, bars_of, usage_context, usage_csv

ATTEMPT_STATES = {State.REFUSED, State.QUARANTINED}
"""States that IndexingAttempt has too; its list shows the pictures with the reasons."""


@admin.register(Dashboard)
class DashboardAdmin(PageAdmin):
    page_template = "visual_search/admin/dashboard.html"

    def get_page_context(self, request: HttpRequest) -> dict[str, Any] | HttpResponse:
        if request.GET.get("format") == "csv":
            return usage_csv()
        figures = [field_figures(field) for field in embedding_fields()]
        is_running = any(one.command is not None and one.command.run.is_running for one in figures)
        return {
            "title": _("Visual search dashboard"),
            "here": _("Dashboard"),
            "fields": [(one, self._states(request, one)) for one in figures],
            "waiting": self._waiting_heads(request, figures),
            "switches": self._switches(request),
            "plot": feedback_plot(),
            **usage_context([one.field for one in figures if not one.problem]),
            "inline": current_app.conf.task_always_eager,
            "searches": self._searches(request),
            "reload_seconds": RELOAD_SECONDS if is_running else None,
        }

    def _states(self, request: HttpRequest, figures: FieldFigures) -> list[dict[str, Any]]:
        """Return count, list and part of the bar (1000 units wide) for each state."""
        rows, x = [], 0.0
        for state in State:
            count = figures.counts[state]
            width = 1000 * count / figures.total if figures.total else 0.0
            url = self._list_url(request, figures.field, state)
            rows.append({"state": state, "count": count, "x": x, "width": width, "url": url})
            x += width
        return rows

    def _waiting_heads(self, request: HttpRequest, figures: list[FieldFigures]) -> list[tuple[str, str, str]]:
        """Return (field, head, URL) of the heads that wait to serve, by the rule of ``switch_embedding``."""
        if not self._may_see(request, EmbeddingHead):
            return []
        heads = better_heads(one.field for one in figures if not one.problem)
        url = f"{self.admin_site.name}:django_visual_search_embeddinghead_change"
        names = {one.field.label: one.name for one in figures}
        return [(names[label], head.name, reverse(url, args=[quote(head.pk)])) for label, head in heads.items()]

    def _switches(self, request: HttpRequest) -> list[tuple[str, str, str]]:
        """Return (field, name of the next serving space, URL of the progress) of the unfinished switches."""
        if not self._may_see(request, EmbeddingHead):
            return []
        labels = ServingSpace.objects.filter(finished_at=None).values_list("label", flat=True)
        now = [serves(field) for field in embedding_fields() if field.label in set(labels)]
        url = f"{self.admin_site.name}:django_visual_search_embeddinghead_switching"
        return [(field_name(one.field), one.name, reverse(url, args=[one.field.label])) for one in now]

    def _list_url(self, request: HttpRequest, field: EmbeddingField, state: State) -> str:
        """Return the URL of the pictures, or their products, in this state; empty where the user may not see them."""
        if state in ATTEMPT_STATES and self._may_see(request, IndexingAttempt):
            query = {"label": field.label, "state": state.value}
            return f"{self._changelist_url(IndexingAttempt)}?{urlencode(query)}"
        model = field.product_model
        if self._has_mixin(model) and self._may_see(request, model):
            return f"{self._changelist_url(model)}?{urlencode({'visual_search': state.value})}"
        return ""

    def _searches(self, request: HttpRequest) -> list[tuple[Any, str]]:
        """Return (name, URL) of the pages on which this user may search by photo."""
        return [
            (model._meta.verbose_name_plural, self.admin_site.get_model_admin(model).visual_search_url)
            for model in apps.get_models()
            if self._has_mixin(model) and self._may_see(request, model)
        ]

    def _has_mixin(self, model: Any) -> bool:
        registered = self.admin_site.is_registered(model)
        return registered and isinstance(self.admin_site.get_model_admin(model), VisualSearchAdminMixin)

    def _may_see(self, request: HttpRequest, model: Any) -> bool:
        registered = self.admin_site.is_registered(model)
        return registered and self.admin_site.get_model_admin(model).has_view_or_change_permission(request)

    def _changelist_url(self, model: Any) -> str:
        opts = model._meta
        try:
            return reverse(f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_changelist")
        except NoReverseMatch:
            return ""


# Figures of an embedding field


@dataclass(frozen=True)
class FieldFigures:
    field: EmbeddingField
    counts: dict[str, int]
    """Pictures by State."""
    without_picture: int
    """Rows whose picture column is empty."""
    extractor_key: str
    problem: str
    """Why the extractor can't run here; empty where it can."""
    ann: AnnFacts | None
    sweep: RunProgress | None
    command: RunProgress | None

    @property
    def name(self) -> str:
        """The field in words."""
        return field_name(self.field)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def current(self) -> int:
        return self.counts[State.CURRENT]

    @property
    def percent(self) -> float:
        """Percentage of pictures that have their vectors, rounded down so that 100 means all."""
        return 1000 * self.current // self.total / 10 if self.total else 0.0


def field_figures(field: EmbeddingField) -> FieldFigures:
    """Return the figures, by one query that counts pictures and a few small ones."""
    counts: dict[str, int] = dict.fromkeys(State, 0)
    key, problem, without_picture, ann = "", "", 0, None
    try:
        key = serving_extractor_key(field)
        problem = _extractor_problem(field)
        counted = dict(cached_if_slow(f"counts.{field.label}.{key}", partial(_count_states, field)))
        without_picture = counted.pop(NO_PICTURE, 0)
        counts.update(counted)
        ann = ann_facts(field)
    except ImproperlyConfigured as e:
        problem = str(e)
    runs = IndexingRun.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    runs_by_kind = {run.kind: RunProgress(run) for run in runs}
    return FieldFigures(
        field,
        counts,
        without_picture,
        key,
        problem,
        ann,
        runs_by_kind.get(IndexingRun.Kind.SWEEP),
        runs_by_kind.get(IndexingRun.Kind.COMMAND),
    )


def _extractor_problem(field: EmbeddingField) -> str:
    """Return why the extractor can't run here; empty where it can."""
    try:
        return serving_extractor(field).missing() or ""
    except ExtractorUnavailable as e:
        return str(e)


def _count_states(field: EmbeddingField) -> dict[str, int]:
    return dict(picture_states(field).values_list("_visual_state").annotate(count=Count("*")).order_by())


# Feedback of the last days


@dataclass(frozen=True)
class PlotRow:
    """One kind of event. ``share``: events per impression in percent, or None."""

    kind: str
    label: Any
    total: int
    most: int
    share: float | None
    bars: list[PlotBar]


@dataclass(frozen=True)
class FeedbackPlot:
    rows: list[PlotRow]
    first: datetime.date
    last: datetime.date
    width: int = DAYS * STEP
    height: int = HEIGHT
    bar: int = BAR

    @property
    def total(self) -> int:
        return sum(row.total for row in self.rows)


def feedback_plot(today: datetime.date | None = None) -> FeedbackPlot:
    """Count the last DAYS days, today included, in the current time zone, by one query."""
    last = today or timezone.localdate(datetime.datetime.now(datetime.UTC))
    first = last - datetime.timedelta(days=DAYS - 1)
    counts = cached_if_slow(
        f"feedback.{first}.{timezone.get_current_timezone_name()}", partial(_count_events, first, last)
    )
    shown = sum(count for (kind, _), count in counts.items() if kind == Feedback.Kind.IMPRESSION)
    days = [first + datetime.timedelta(days=n) for n in range(DAYS)]
    rows = [
        _plot_row(kind, label, [(day, counts.get((kind, day), 0)) for day in days], shown)
        for kind, label in Feedback.Kind.choices
    ]
    return FeedbackPlot(rows, first, last)


def _count_events(first: datetime.date, last: datetime.date) -> dict[tuple[str, datetime.date], int]:
    """Return the number of events by kind and day."""
    since, before = (
        timezone.make_aware(datetime.datetime.combine(day, datetime.time.min))
        for day in (first, last + datetime.timedelta(days=1))
    )
    events = Feedback.objects.filter(created_at__gte=since, created_at__lt=before)
    counted = events.values_list("kind", TruncDate("created_at")).annotate(count=Count("*")).order_by()
    return {(kind, day): count for kind, day, count in counted}


def _plot_row(kind: str, label: Any, counts: list[tuple[datetime.date, int]], shown: int) -> PlotRow:
    total, most = sum(count for _, count in counts), max(count for _, count in counts)
    share = 100 * total / shown if shown and kind != Feedback.Kind.IMPRESSION else None
    return PlotRow(kind, label, total, most, share, bars_of(counts))
