"""Trains a head: settings, figures and confidence come from held-out pictures, the head itself from all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.heads import LinearHead
from .calibration import Calibration
from .first_hits import learn_confidence
from .labels import Labels, one_blas_thread
from .lda import Learned, Settings, learn
from .metrics import Metrics
from .selection import Plan, Tried, answerable, check, choose, learned_embed, measure, splits_of
from .splits import Indices, Split

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What held-out pictures say of one task, with the vectors that the shop has now and with the head."""

    split: Split
    before: Metrics
    after: Metrics

    @property
    def better(self) -> bool:
        return self.after.mean_average_precision > self.before.mean_average_precision

    def __str__(self) -> str:
        return f"{self.split}\n  before  {self.before}\n  after   {self.after}"


@dataclass(frozen=True)
class Trained:
    """A head made from all pictures, and what is known of it from heads of the same settings made from some."""

    learned: Learned
    settings: Settings
    outcomes: tuple[Outcome, ...]
    """By task; empty where nothing could be held out."""
    calibration: Calibration | None
    """None where there were too few held-out pictures to learn confidence from."""
    tried: tuple[Tried, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    """What could not be done, and why; for people."""

    @property
    def head(self) -> LinearHead:
        return self.learned.head


def train_head(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: Plan,
    *,
    before: NDArray[np.floating[Any]],
    learned_before: Settings | None = None,
    scenes: Indices | None = None,
    strangers: NDArray[np.floating[Any]] | None = None,
    inner: Sequence[Split] | None = None,
    progress: Progress = lambda message: None,
) -> Trained:
    """Choose settings, measure before and after, learn confidence, and learn the head from everything.

    ``features``: ``(n, f)`` of the shop's pictures; ``labels``: theirs (see ``learn``). ``before``: the unit vectors,
    ``(n, b)``, that they have now, which may come from another backbone. ``learned_before``: how the head was learned
    that they come of, if any; then ``before`` are that backbone's features, and what serves is measured by heads of
    those settings that don't know the held-out pictures either. ``scenes``: see ``near_duplicates``.
    ``strangers``: features, ``(s, f)``, of pictures of other things, for which confidence is to be low. ``inner``: what
    settings are chosen by, where the features themselves were learned from some of the pictures.

    Settings are chosen on pictures that are neither of the held-out ones nor of a held-out product, so the figures owe
    nothing to what they are measured with; the head that serves then knows these too. Needs scikit-learn
    (ExtractorUnavailable). Raises ValueError where nothing can be learned; what can't be measured is said in ``notes``.
    """
    with one_blas_thread():
        return _train(features, labels, plan, before, learned_before, scenes, strangers, inner, progress)


def _train(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: Plan,
    before: NDArray[np.floating[Any]],
    learned_before: Settings | None,
    scenes: Indices | None,
    strangers: NDArray[np.floating[Any]] | None,
    given: Sequence[Split] | None,
    progress: Progress,
) -> Trained:
    start = time.monotonic()
    notes: list[str] = []
    check(features, labels, plan, before, scenes)
    outer = splits_of(labels, np.arange(len(features)), plan, scenes, plan.seed, notes)
    seen = np.ones(len(features), bool)
    for split in outer:
        seen[split.held_out] = False
    settings = Settings(plan.dimensions)
    tried: list[Tried] = []
    inner = list(given or ())
    if outer and given is None:
        inner = splits_of(labels, np.flatnonzero(seen), plan, scenes, plan.seed + 1, [])
    inner = [split for split in inner if len(answerable(labels[plan.target], split, scenes))]
    if outer and not inner:
        notes.append("Beside the held-out pictures too few are left to choose settings by: the usual ones are taken.")
    if inner:
        progress(f"choosing settings on {int(seen.sum())} pictures")
        settings, tried = choose(
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
            now = _as_they_are if learned_before is None else learned_embed(before, labels, split, learned_before)
            figures = [
                measure(rows, labels[plan.target], split, way, scenes=scenes).mean()
                for rows, way in ((before, now), (features, embed))
            ]
        except ValueError as e:
            notes.append(f"{split.task}: {e}")
            continue
        outcomes.append(Outcome(split, *figures))
        if split.task == "unseen pictures":
            progress("learning how sure hits are")
            own = given is None
            calibration = learn_confidence(
                *(features, labels, plan, settings, (split, embed), notes), scenes=scenes, strangers=strangers, more=own
            )
    progress(f"learning from {len(features)} pictures")
    learned = learn(features, labels, settings)
    spent = time.monotonic() - start
    return Trained(learned, settings, tuple(outcomes), calibration, tuple(tried), spent, tuple(notes))


def _as_they_are(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors, np.float32)
