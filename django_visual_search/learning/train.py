"""Train a head: settings, figures and confidence come from held-out pictures, the head itself from all of them.

Entry function: ``train_head``. It returns a ``TrainedHead`` with a ``Measured`` for each question of the plan, measured
*before* (by the vectors that serve now), *untrained* and *after* (by heads that never saw the held-out pictures).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from ..extractors.heads import LinearHead
from .calibration import Calibration
from .confidence import learn_confidence
from .folds import (
    CHOICE_DRAWS,
    Fold,
    Question,
    TrainingPlan,
    answerable_folds,
    check_arrays,
    draws_of,
    seen_by_all,
    take,
)
from .labels import Labels, one_blas_thread
from .lda import HeadLearner, HeadSettings, LearnedHead, Moments, learn_reduced_head, principal_axes, projected
from .metrics import Metrics, PerQuery, concatenate
from .selection import Embed, Tried, choose_settings, embed_by, measure, unchanged
from .splits import UNSEEN_PICTURES, Indices, Split


@dataclass(frozen=True)
class Gain:
    """The mean over queries of the change in (R@1 + average precision) / 2, and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, after: PerQuery, before: PerQuery) -> Gain:
        change = (after.recall[1] - before.recall[1] + after.average_precision - before.average_precision) / 2
        change = change[~np.isnan(change)]
        return cls(float(change.mean()), float(change.std() / np.sqrt(len(change))))


@dataclass(frozen=True)
class Measured:
    """The figures of one question on held-out pictures."""

    question: Question
    """Of the first draw."""
    before: Metrics
    untrained: Metrics
    after: Metrics
    gain: Gain
    """Over the serving vectors."""
    learned: Gain
    """Over the untrained features."""

    @property
    def split(self) -> Split:
        return self.question.split


@dataclass(frozen=True)
class TrainedHead:
    """A head learned from all pictures, and the figures of heads with settings chosen alike and learned from some."""

    learned: LearnedHead
    settings: HeadSettings
    outcomes: tuple[Measured, ...]
    """By question, aims first; empty where nothing could be held out."""
    calibration: Calibration | None
    """None where too few pictures were held out to learn confidence from."""
    tried: tuple[Tried, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    """Steps that were impossible, and why; for people."""

    @property
    def head(self) -> LinearHead:
        return self.learned.head


@dataclass(frozen=True)
class _Given:
    """The arguments of ``train_head``."""

    features: NDArray[np.floating[Any]]
    labels: Labels
    plan: TrainingPlan
    before: NDArray[np.floating[Any]]
    learned_before: HeadSettings | None
    untrained: NDArray[np.floating[Any]]
    scenes: Indices | None
    plain: NDArray[np.bool_] | None
    strangers: NDArray[np.floating[Any]] | None
    inner: Sequence[Fold] | None
    progress: Callable[[str], None]


def train_head(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    *,
    before: NDArray[np.floating[Any]],
    learned_before: HeadSettings | None = None,
    untrained: NDArray[np.floating[Any]] | None = None,
    scenes: Indices | None = None,
    plain: NDArray[np.bool_] | None = None,
    strangers: NDArray[np.floating[Any]] | None = None,
    inner: Sequence[Fold] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> TrainedHead:
    """Choose settings, measure before and after, learn confidence, and learn the head from everything.

    ``features``: ``(n, f)`` of the shop's pictures; ``labels``: theirs (see ``learn_head``). ``before``: the unit
    vectors, ``(n, b)``, that they have now, which may come from another backbone. ``learned_before``: settings of the
    head that made these vectors, if any; then ``before`` are that backbone's features, and heads of those settings that
    don't know the held-out pictures either are measured. ``untrained``: unit vectors of a backbone that knows none of
    the pictures, ``(n, u)``, by default the features themselves. ``scenes``: see ``near_duplicates``. ``plain``: which
    rows are pictures, where others are altered views.
    ``strangers``: features, ``(s, f)``, of pictures of other things, for which confidence is to be low. ``inner``:
    folds to choose settings by, where the features themselves were learned from some of the pictures.

    Settings are chosen on pictures that are neither held out nor of a held-out product, so the figures owe nothing to
    the pictures they are measured with; the returned head knows these too. Raises ValueError where nothing can be
    learned, and ExtractorUnavailable without scikit-learn; ``notes`` of the result say what couldn't be measured.
    """
    if untrained is None:
        untrained = l2_normalise(np.asarray(features, np.float32))
    given = _Given(features, labels, plan, before, learned_before, untrained, scenes, plain, strangers, inner, progress)
    with one_blas_thread():
        return _Training(given).run()


@dataclass
class _Measured:
    """Measures of one question, draw after draw."""

    question: Question
    before: list[PerQuery] = field(default_factory=list)
    untrained: list[PerQuery] = field(default_factory=list)
    after: list[PerQuery] = field(default_factory=list)

    def outcome(self) -> Measured:
        before, untrained, after = map(concatenate, (self.before, self.untrained, self.after))
        return Measured(
            *(self.question, before.mean(), untrained.mean(), after.mean()),
            gain=Gain.of(after, before),
            learned=Gain.of(after, untrained),
        )


class _Training:
    """One call of ``train_head``."""

    def __init__(self, given: _Given) -> None:
        self.given = given
        self.notes: list[str] = []
        self.measured: dict[tuple[str, str], _Measured] = {}
        self.calibration: Calibration | None = None
        self._axes_by_rows: dict[bytes, LinearHead | None] = {}

    def run(self) -> TrainedHead:
        start, given = time.monotonic(), self.given
        check_arrays(given.features, given.labels, given.plan, given.before, given.scenes)
        rows = np.arange(len(given.features))
        settings, tried = HeadSettings(given.plan.dimensions), list[Tried]()
        draws = draws_of(given.labels, rows, given.plan, given.scenes, given.plain, given.plan.seed, self.notes)
        for folds in draws:
            if folds:
                settings, tried = self._draw(folds)
        if len(draws) > 1:
            reduced = projected(self._axes(rows), given.features)
            settings, tried = self._chosen(reduced, rows, settings, given.plan.seed + 1)
        self._confidence(draws[0] if draws else [], settings)
        given.progress(f"learning from {len(rows)} pictures")
        learned = learn_reduced_head(given.features, given.labels, settings, self._axes(rows))
        outcomes = sorted(
            (one.outcome() for one in self.measured.values()),
            key=lambda one: (
                not one.question.aim,
                given.plan.wanted.index(one.question.label) if one.question.aim else 0,
            ),
        )
        spent = time.monotonic() - start
        return TrainedHead(learned, settings, tuple(outcomes), self.calibration, tuple(tried), spent, tuple(self.notes))

    def _draw(self, folds: list[Fold]) -> tuple[HeadSettings, list[Tried]]:
        """Choose settings without the held-out pictures of ``folds``, and measure with these."""
        given = self.given
        seen = np.flatnonzero(seen_by_all(folds, len(given.features)))
        reduced = projected(self._axes(seen), given.features)
        settings, tried = HeadSettings(given.plan.dimensions), list[Tried]()
        if given.inner is not None:
            inner = answerable_folds(given.inner, given.labels, given.scenes)
            settings, tried = self._chosen_by(reduced, inner, settings)
        else:
            settings, tried = self._chosen(reduced, seen, settings, given.plan.seed + 1, CHOICE_DRAWS)
        for fold in folds:
            learned = self._learned(reduced, fold, settings)
            self._asked(reduced, fold, learned)
        return settings, tried

    def _axes(self, rows: Indices) -> LinearHead | None:
        """Return the principal axes of these rows. Remembered, because several steps take those of the same rows."""
        key = rows.tobytes()
        if key not in self._axes_by_rows:
            self._axes_by_rows[key] = principal_axes(self.given.features[rows], self.given.plan.dimensions)
        return self._axes_by_rows[key]

    def _chosen(
        self, reduced: NDArray[np.float32], rows: Indices, usual: HeadSettings, seed: int, most: int | None = None
    ) -> tuple[HeadSettings, list[Tried]]:
        """Choose settings by holding out some of ``rows``. ``most``: see ``draws_of``."""
        given = self.given
        draws = draws_of(given.labels, rows, given.plan, given.scenes, given.plain, seed, [], most)
        folds = [fold for draw in draws for fold in draw]
        return self._chosen_by(reduced, answerable_folds(folds, given.labels, given.scenes), usual)

    def _chosen_by(
        self, reduced: NDArray[np.float32], folds: list[Fold], usual: HeadSettings
    ) -> tuple[HeadSettings, list[Tried]]:
        given = self.given
        if not folds:
            note = "Beside the held-out pictures too few are left to choose settings by: the defaults are taken."
            self.notes += [note] if note not in self.notes else []
            return usual, []
        given.progress(
            f"choosing settings on {len(np.unique(np.concatenate([fold.split.train for fold in folds])))} pictures"
        )
        return choose_settings(reduced, given.labels, given.plan, folds, given.untrained, scenes=given.scenes)

    def _learned(self, rows: NDArray[Any], fold: Fold, settings: HeadSettings) -> Embed:
        moments = Moments(rows[fold.split.train], take(self.given.labels, fold.split.train))
        return embed_by(HeadLearner(moments).head(settings).head)

    def _before(self, fold: Fold) -> tuple[NDArray[Any], Embed]:
        """Return the rows and the serving embedding, by a head that doesn't know the held-out pictures."""
        given = self.given
        if given.learned_before is None:
            return given.before, unchanged
        seen = fold.split.train
        axes = principal_axes(given.before[seen], given.learned_before.dimensions)
        reduced = projected(axes, given.before)
        return reduced, self._learned(reduced, fold, given.learned_before)

    def _asked(self, reduced: NDArray[np.float32], fold: Fold, learned: Embed) -> None:
        """Measure the questions of a fold."""
        given = self.given
        before = self._before(fold)
        for question in fold.questions:
            task, values = question.split.task, given.labels[question.label]
            given.progress(f"measuring: {task}")
            ways = (before, (given.untrained, unchanged), (reduced, learned))
            parts = [measure(rows, values, question.split, by, scenes=given.scenes) for rows, by in ways]
            try:
                parts[0].mean()
            except ValueError as e:
                self.notes.append(f"{task}: {e}")
                continue
            one = self.measured.setdefault((question.label, task), _Measured(question))
            for own, part in zip((one.before, one.untrained, one.after), parts, strict=True):
                own.append(part)

    def _confidence(self, folds: list[Fold], settings: HeadSettings) -> None:
        """Learn confidence from heads of the very ``settings`` that will serve: others have other similarities."""
        given = self.given
        fold = next((fold for fold in folds if fold.split.task == UNSEEN_PICTURES), None)
        if fold is None:
            return
        given.progress("learning how sure hits are")
        axes = self._axes(np.flatnonzero(seen_by_all(folds, len(given.features))))
        reduced = projected(axes, given.features)
        measured = fold.split, self._learned(reduced, fold, settings)
        strangers = None if given.strangers is None else projected(axes, given.strangers)
        self.calibration = learn_confidence(
            *(reduced, given.labels, given.plan, settings, measured, self.notes),
            scenes=given.scenes,
            strangers=strangers,
            plain=given.plain,
            more=given.inner is None,
        )
