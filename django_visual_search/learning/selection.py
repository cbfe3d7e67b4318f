"""Chooses how a head is learned on pictures held out, and says how much better it is than before.

What a head is learned from and measured with: the plan, and the pictures that it holds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from .labels import Labels, Values, grouping
from .lda import HeadLearner, Moments, Settings
from .metrics import Metrics, PerQuery, evaluate, joined
from .splits import Indices, Split, unseen_pictures, unseen_products

Embed = Callable[[NDArray[Any]], NDArray[np.float32]]

SHRINKAGES = (0.05, 0.1, 0.2, 0.35, 0.6)
RESIDUALS = (0.02, 0.05, 0.1)

TOLERANCE = 0.002
"""Of the objective: among settings that are as good to within that, the one with the largest residual is taken, for
nothing held out here measures what it is for."""

QUERIES = 2000
"""Held-out pictures that are asked for at most: the standard error of a share is 0.011 then."""

CHOSEN_BY = (1000, 10_000)
"""The same while settings are chosen, and the pictures that they are searched for among at most: tens of settings over
100,000 pictures would take hours otherwise, and are told apart as well by fewer."""

AT_ONCE = 4_000_000
"""Similarities that are in memory at a time."""


@dataclass(frozen=True)
class Tried:
    """One setting, and the objective that it reached: the mean over splits of (R@1 + mAP) / 2."""

    settings: Settings
    objective: float
    metrics: tuple[Metrics, ...]
    """By split."""


def choose(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    *,
    target: str,
    splits: Sequence[Split],
    dimensions: int,
    scenes: Indices | None = None,
    shrinkages: Iterable[float] = SHRINKAGES,
    residuals: Iterable[float] = RESIDUALS,
    weights: Iterable[Mapping[str, float]] = ({},),
) -> tuple[Settings, list[Tried]]:
    """The best of the grid of settings by what is held out in ``splits``, and all that were tried.

    ``target``: the label whose pictures should find each other, such as "product". ``weights``: mixtures of the labels
    to try. The others: as for ``measure`` and ``learn``, which say what is raised; ValueError also where there is
    nothing to try.
    """
    grid = [
        Settings(dimensions, shrinkage, residual, mixture)
        for mixture in weights
        for shrinkage in shrinkages
        for residual in residuals
    ]
    if not grid or not splits:
        raise ValueError("There are no settings or no splits to choose by.")
    found: list[list[Metrics]] = [[] for _ in grid]
    queries, among = CHOSEN_BY
    for split in splits:
        learner = HeadLearner(Moments(features[split.train], take(labels, split.train)))
        unnamed: Metrics | None = None
        for settings, row in zip(grid, found, strict=True):
            learned = learner.head(settings)
            if learned.named or unnamed is None:
                way = embed_by(learned.head)
                figures = measure(
                    features, labels[target], split, way, scenes=scenes, queries=queries, among=among
                ).mean()
                if not learned.named:
                    unnamed = figures  # all principal axes are the same
            row.append(figures if learned.named or unnamed is None else unnamed)
    tried = [Tried(settings, _objective(row), tuple(row)) for settings, row in zip(grid, found, strict=True)]
    best = max(one.objective for one in tried)
    good = [one for one in tried if one.objective >= best - TOLERANCE]
    return max(good, key=lambda one: (one.settings.residual, one.objective)).settings, tried


def measure(
    features: NDArray[np.floating[Any]],
    target: Values,
    split: Split,
    embed: Embed,
    *,
    scenes: Indices | None = None,
    queries: int = QUERIES,
    among: int | None = None,
    seed: int = 0,
) -> PerQuery:
    """How well the held-out pictures are found, every picture with the same ``target`` label being right.

    Unseen pictures are searched for among those that were learned from, as a customer's photo is in the catalogue.
    Unseen products are searched for among each other, a picture never finding itself nor, with ``scenes``, its own
    scene. ``queries``: where more are held out, so many of those with something right to be found are drawn.
    ``among``: where there are more to be found, all that are right and others drawn, about so many together.

    Raises ValueError where lengths differ. ``mean`` of the result does where nothing could be found right.
    """
    if len(target) != len(features):
        raise ValueError(f"There are {len(target)} target labels for {len(features)} pictures.")
    classes = grouping("target", target, len(features)).classes
    own = np.arange(len(features)) if scenes is None else np.asarray(scenes)
    rng = np.random.default_rng(seed)
    asked = split.held_out[classes[split.held_out] >= 0]
    apart = split.task != "unseen pictures"
    gallery = asked if apart else split.train
    if len(asked) > queries:
        asked = _drawn(answerable(target, split, scenes), queries, rng)
    if among is not None and len(gallery) > among:
        right = np.isin(classes[gallery], classes[asked])
        others = _drawn(gallery[~right], max(among - int(right.sum()), 0), rng)
        gallery = np.sort(np.concatenate([gallery[right], others]))
    there = embed(features[gallery])
    parts = []
    step = max(1, AT_ONCE // max(1, len(gallery)))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        candidates = own[rows][:, None] != own[gallery][None] if apart else None
        gains = classes[rows][:, None] == classes[gallery][None]
        parts.append(evaluate(embed(features[rows]) @ there.T, gains, candidates=candidates))
    return joined(parts)


def answerable(target: Values, split: Split, scenes: Indices | None = None) -> Indices:
    """The held-out pictures for which there is something right to be found, as ``measure`` searches; ascending."""
    classes = grouping("target", target, len(target)).classes
    held = split.held_out[classes[split.held_out] >= 0]
    if split.task == "unseen pictures":
        return held[np.isin(classes[held], classes[split.train])]
    own = held if scenes is None else np.asarray(scenes)[held]
    pairs, back, same = np.unique(
        np.stack([classes[held], own], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    alike = np.bincount(classes[held], minlength=1)[pairs[:, 0]]
    return held[(alike > same)[back.reshape(-1)]]


def _drawn(rows: Indices, most: int, rng: np.random.Generator) -> Indices:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def embed_by(head: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Embed:
    """Features to unit vectors by a head, as an extractor makes them."""
    return lambda features: l2_normalise(head(np.asarray(features, np.float32)))


def learned_embed(features: NDArray[Any], labels: Labels, split: Split, settings: Settings) -> Embed:
    """By a head that is learned from what the split doesn't hold out."""
    return embed_by(HeadLearner(Moments(features[split.train], take(labels, split.train))).head(settings).head)


def take(labels: Labels, rows: Indices) -> dict[str, Values]:
    """The labels of some rows."""
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[int(i)] for i in rows]
        for name, values in labels.items()
    }


def _objective(metrics: Sequence[Metrics]) -> float:
    return float(np.mean([(one.recall[1] + one.mean_average_precision) / 2 for one in metrics]))


@dataclass(frozen=True)
class Plan:
    """What is learned, and how it is measured.

    ``target``: the label by which pictures are to find each other, such as "product".
    ``kind``: a label by which a hit is right too where confidence is learned, such as "category".
    ``category``: the label that confidence is told apart by, if any.
    ``share``: of pictures and of products that are held out.
    ``mixtures``: weights of labels to try, as ``Settings.weights``.
    """

    dimensions: int
    target: str
    kind: str | None = None
    category: str | None = None
    share: float = 0.3
    seed: int = 0
    shrinkages: Sequence[float] = SHRINKAGES
    residuals: Sequence[float] = RESIDUALS
    mixtures: Sequence[Mapping[str, float]] = field(default_factory=lambda: ({},))


def held_out(labels: Labels, plan: Plan, scenes: Indices | None = None) -> NDArray[np.bool_]:
    """Which pictures ``train_head`` measures with: nothing else may be learned from them either, such as a backbone."""
    values = labels[plan.target]
    held = np.zeros(len(values), bool)
    for split in splits_of(labels, np.arange(len(values)), plan, scenes, plan.seed, []):
        held[split.held_out] = True
    return held


def splits_of(
    labels: Labels, rows: Indices, plan: Plan, scenes: Indices | None, seed: int, notes: list[str]
) -> list[Split]:
    """Both tasks over some of the pictures, as rows of all; those that can't be had are noted."""
    own = take(labels, rows)[plan.target]
    some = None if scenes is None else scenes[rows]
    found = []
    for make in (unseen_pictures, unseen_products):
        try:
            split = make(own, share=plan.share, scenes=some, seed=seed)
        except ValueError as e:
            notes.append(str(e))
            continue
        if len(split.train) > 1:
            found.append(Split(split.task, rows[split.train], rows[split.held_out], split.leaked))
    return found


def check(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: Plan,
    before: NDArray[np.floating[Any]],
    scenes: Indices | None,
) -> None:
    """Raises ValueError where what is given doesn't fit together."""
    for name in (plan.target, plan.kind, plan.category, *(name for mixture in plan.mixtures for name in mixture)):
        if name is not None and name not in labels:
            raise ValueError(f"There is no label {name!r}; there are {', '.join(labels)}.")
    if not 0 < plan.share < 1:
        raise ValueError(f"The share to hold out must be between 0 and 1, not {plan.share}.")
    numbers = {f"labels {name!r}": len(values) for name, values in labels.items()}
    numbers |= {"vectors before": len(before), "scenes": len(features) if scenes is None else len(scenes)}
    for what, number in numbers.items():
        if number != len(features):
            raise ValueError(f"There are {number} {what} for {len(features)} pictures.")
    if not np.isfinite(before).all():
        raise ValueError("The vectors before must be finite numbers, zeros where a picture has none.")
