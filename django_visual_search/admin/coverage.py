"""Figures of one embedding field for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Count
from django.utils import timezone

from ..conf import conf
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..indexing.states import NO_PICTURE, State, pictures
from ..models import IndexingRun
from ..spaces.heads import wanted_extractor, wanted_key
from .ann_facts import AnnFacts, ann_facts
from .slow import kept_if_slow


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
        key = wanted_key(field)
        problem = _problem(field)
        counted = dict(kept_if_slow(f"counts.{field.label}.{key}", partial(_count, field)))
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


def _count(field: EmbeddingField) -> dict[str, int]:
    return dict(pictures(field).values_list("visual_state").annotate(count=Count("*")).order_by())
