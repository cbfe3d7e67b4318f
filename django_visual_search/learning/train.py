"""Train a head: settings, figures and confidence come from held-out pictures, the head itself from all of them.

Entry function: ``train_head``. It returns a ``TrainedHead`` with a ``TaskComparison`` for each task, "unseen pictures"
and "unseen products", measured *before* (by the vectors that serve now) and *after* (by heads that never saw them).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.heads import LinearHead
from .calibration import Calibration
from .confidence import learn_confidence
from .labels import Labels, one_blas_thread
from .lda import HeadSettings, LearnedHead, learn_head
from .metrics import Metrics
from .selection import TrainingPlan, Tried, answerable, check_arrays, choose_settings, learned_embed, measure, splits_of
from .splits import Indices, Split


@dataclass(frozen=True)
class TaskComparison:
    """Figures of one task on held-out pictures, by the vectors that the shop has now and by the head."""

    split: Split
    before: Metrics
    after: Metrics

    @property
    def better(self) -> bool:
        return self.after.mean_average_precision > self.before.mean_average_precision

    def __str__(self) -> str:
        return f"{self.split}\n  before  {self.before}\n  after   {self.after}"


@dataclass(frozen=True)
class TrainedHead:
    """A head learned from all pictures, and the figures of heads with the same settings that were learned from some."""

    learned: LearnedHead
    settings: HeadSettings
    outcomes: tuple[TaskComparison, ...]
    """By task; empty where nothing could be held out."""
    calibration: Calibration | None
    """None where too few pictures were held out to learn confidence from."""
    tried: tuple[Tried, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    """Steps that were impossible, and why; for people."""

    @property
    def head(self) -> LinearHead:
        return self.learned.head


def train_head(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    *,
    before: NDArray[np.floating[Any]],
    learned_before: HeadSettings | None = None,
    scenes: Indices | None = None,
    strangers: NDArray[np.floating[Any]] | None = None,
    inner: Sequence[Split] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> TrainedHead:
    """Choose settings, measure before and after, learn confidence, and learn the head from everything.

    ``features``: ``(n, f)`` of the shop's pictures; ``labels``: theirs (see ``learn_head``). ``before``: the unit
    vectors, ``(n, b)``, that they have now, which may come from another backbone. ``learned_before``: settings of the
    head that made these vectors, if any; then ``before`` are that backbone's features, and heads of those settings that
    don't know the held-out pictures either are measured. ``scenes``: see ``near_duplicates``.
    ``strangers``: features, ``(s, f)``, of pictures of other things, for which confidence is to be low. ``inner``:
    splits to choose settings by, where the features themselves were learned from some of the pictures.

    Settings are chosen on pictures that are neither held out nor of a held-out product, so the figures owe nothing to
    the pictures they are measured with; the returned head knows these too. Raises ValueError where nothing can be
    learned, and ExtractorUnavailable without scikit-learn; ``notes`` of the result say what couldn't be measured.
    """
    with one_blas_thread():
        return _train(features, labels, plan, before, learned_before, scenes, strangers, inner, progress)


def _train(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    before: NDArray[np.floating[Any]],
    learned_before: HeadSettings | None,
    scenes: Indices | None,
    strangers: NDArray[np.floating[Any]] | None,
    given: Sequence[Split] | None,
    progress: Callable[[str], None],
) -> TrainedHead:
    start = time.monotonic()
    notes: list[str] = []
    check_arrays(features, labels, plan, before, scenes)
    outer = splits_of(labels, np.arange(len(features)), plan, scenes, plan.seed, notes)
    seen = np.ones(len(features), bool)
    for split in outer:
        seen[split.held_out] = False
    settings = HeadSettings(plan.dimensions)
    tried: list[Tried] = []
    inner = list(given or ())
    if outer and given is None:
        inner = splits_of(labels, np.flatnonzero(seen), plan, scenes, plan.seed + 1, [])
    inner = [split for split in inner if len(answerable(labels[plan.target], split, scenes))]
    if outer and not inner:
        notes.append("Beside the held-out pictures too few are left to choose settings by: the defaults are taken.")
    if inner:
        progress(f"choosing settings on {int(seen.sum())} pictures")
        settings, tried = choose_settings(
            features,
            labels,
            target=plan.target,
            splits=inner,
            dimensions=plan.dimensions,
            scenes=scenes,
            shrinkages=plan.shrinkages,
            residuals=plan.residuals,
            weights=plan.mixtures,
        )
    outcomes, calibration = [], None
    for split in outer:
        progress(f"measuring: {split.task}")
        try:
            embed = learned_embed(features, labels, split, settings)
            now = _unchanged if learned_before is None else learned_embed(before, labels, split, learned_before)
            figures = [
                measure(rows, labels[plan.target], split, by, scenes=scenes).mean()
                for rows, by in ((before, now), (features, embed))
            ]
        except ValueError as e:
            notes.append(f"{split.task}: {e}")
            continue
        outcomes.append(TaskComparison(split, *figures))
        if split.task == "unseen pictures":
            progress("learning how sure hits are")
            own = given is None
            calibration = learn_confidence(
                *(features, labels, plan, settings, (split, embed), notes), scenes=scenes, strangers=strangers, more=own
            )
    progress(f"learning from {len(features)} pictures")
    learned = learn_head(features, labels, settings)
    spent = time.monotonic() - start
    return TrainedHead(learned, settings, tuple(outcomes), calibration, tuple(tried), spent, tuple(notes))


def _unchanged(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors, np.float32)
