"""Choose the settings of a head on held-out pictures, and measure embeddings on them.

Entry functions: ``choose_settings`` tries a grid of ``HeadSettings``; ``measure`` says how well an embedding finds
held-out pictures. A ``TrainingPlan`` says what is learned and held out, and ``splits_of`` makes its two tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from .labels import Labels, Values, grouping
from .lda import HeadLearner, HeadSettings, Moments
from .metrics import Metrics, PerQuery, concatenate, evaluate
from .splits import Indices, Split, unseen_pictures, unseen_products

Embed = Callable[[NDArray[Any]], NDArray[np.float32]]

SHRINKAGES = (0.05, 0.1, 0.2, 0.35, 0.6)
RESIDUALS = (0.02, 0.05, 0.1)

CONFIDENCE_SPLITS = 4
"""Held-out pictures differ by luck, in a small shop most: by one split at a confidence of 0.5, descriptors without a
network kept 0.91 of the right first hits among grocery photos of other scenes, and answered 0.12 of irrelevant photos
(means of six seeds, which were 0.07 to 0.23); pooled from four, 0.90 and 0.08. A network: 0.96 and 0.04 either way."""

CONFIDENCE_QUERIES = 3000
"""Queries that need no further split."""

TOLERANCE = 0.002
"""Of the objective: among settings within that of the best, the largest residual wins, for nothing held out here
measures its purpose."""

QUERIES = 2000
"""Held-out pictures that are queries at most: the standard error of a share is 0.011 then."""

CHOSEN_BY = (1000, 10_000)
"""Queries and gallery pictures at most while settings are chosen: tens of settings over 100,000 pictures would take
hours otherwise, and fewer tell them apart as well."""

SIMILARITIES_AT_ONCE = 4_000_000
"""Similarities that are in memory at a time."""


@dataclass(frozen=True)
class TrainingPlan:
    """What is learned, and how it is measured.

    ``target``: the label by which pictures are to find each other, such as "product".
    ``kind``: a label by which a hit is right too where confidence is learned, such as "category".
    ``category``: the label that has a confidence curve for each of its values, if any.
    ``share``: of pictures and of products that are held out.
    ``mixtures``: weights of labels to try, as ``HeadSettings.weights``.
    ``confidence_splits``, ``confidence_queries``: confidence is learned from so many splits at most, and from no
    further one once there are so many queries.
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
    confidence_splits: int = CONFIDENCE_SPLITS
    confidence_queries: int = CONFIDENCE_QUERIES


@dataclass(frozen=True)
class Tried:
    """Settings and the objective that they reached: the mean over splits of (R@1 + mAP) / 2."""

    settings: HeadSettings
    objective: float
    metrics: tuple[Metrics, ...]
    """By split."""


def choose_settings(
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
) -> tuple[HeadSettings, list[Tried]]:
    """Return the best of the grid of settings by the held-out pictures of ``splits``, and all that were tried.

    ``target``: the label whose pictures should find each other, such as "product". ``weights``: mixtures of the labels
    to try. For the other arguments and errors see ``measure`` and ``learn_head``; ValueError also where the grid or
    ``splits`` are empty.
    """
    grid = [
        HeadSettings(dimensions, shrinkage, residual, mixture)
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
                embed = embed_by(learned.head)
                figures = measure(
                    features, labels[target], split, embed, scenes=scenes, queries=queries, among=among
                ).mean()
                if not learned.named:
                    unnamed = figures  # all settings leave the same principal axes
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
    at_once: int = SIMILARITIES_AT_ONCE,
) -> PerQuery:
    """Measure how well held-out pictures are found, every picture with the same ``target`` label being right.

    Unseen pictures are searched among the pictures learned from, as a customer's photo is in the catalogue. Unseen
    products are searched among each other, a picture never finding itself nor, with ``scenes``, its own scene.
    ``queries``: where more are held out, so many of the answerable ones are drawn. ``among``: where the gallery is
    larger, all right pictures and a draw of others, about so many together. ``at_once``: similarities in memory.

    Raises ValueError where lengths differ. ``mean`` of the result raises it where no query is answerable.
    """
    if len(target) != len(features):
        raise ValueError(f"There are {len(target)} target labels for {len(features)} pictures.")
    classes = grouping("target", target, len(features)).classes
    own = np.arange(len(features)) if scenes is None else np.asarray(scenes)
    rng = np.random.default_rng(seed)
    searched = split.held_out[classes[split.held_out] >= 0]
    apart = split.task != "unseen pictures"
    gallery = searched if apart else split.train
    if len(searched) > queries:
        searched = _drawn(answerable(target, split, scenes), queries, rng)
    if among is not None and len(gallery) > among:
        right = np.isin(classes[gallery], classes[searched])
        others = _drawn(gallery[~right], max(among - int(right.sum()), 0), rng)
        gallery = np.sort(np.concatenate([gallery[right], others]))
    vectors = embed(features[gallery])
    parts = []
    step = max(1, at_once // max(1, len(gallery)))
    for start in range(0, len(searched), step):
        rows = searched[start : start + step]
        candidates = own[rows][:, None] != own[gallery][None] if apart else None
        gains = classes[rows][:, None] == classes[gallery][None]
        parts.append(evaluate(embed(features[rows]) @ vectors.T, gains, candidates=candidates))
    return concatenate(parts)


def answerable(target: Values, split: Split, scenes: Indices | None = None) -> Indices:
    """Return the held-out pictures that ``measure`` could find something right for, ascending."""
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
    """Return the embedding by a head: features to unit vectors, as an extractor makes them."""
    return lambda features: l2_normalise(head(np.asarray(features, np.float32)))


def learned_embed(features: NDArray[Any], labels: Labels, split: Split, settings: HeadSettings) -> Embed:
    """Return the embedding by a head that is learned from the split's ``train``."""
    return embed_by(HeadLearner(Moments(features[split.train], take(labels, split.train))).head(settings).head)


def take(labels: Labels, rows: Indices) -> dict[str, Values]:
    """Return the labels of some rows."""
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[int(i)] for i in rows]
        for name, values in labels.items()
    }


def _objective(metrics: Sequence[Metrics]) -> float:
    return float(np.mean([(one.recall[1] + one.mean_average_precision) / 2 for one in metrics]))


def held_out(labels: Labels, plan: TrainingPlan, scenes: Indices | None = None) -> NDArray[np.bool_]:
    """Return which pictures ``train_head`` measures with: a backbone must not be learned from these either."""
    values = labels[plan.target]
    held = np.zeros(len(values), bool)
    for split in splits_of(labels, np.arange(len(values)), plan, scenes, plan.seed, []):
        held[split.held_out] = True
    return held


def splits_of(
    labels: Labels, rows: Indices, plan: TrainingPlan, scenes: Indices | None, seed: int, notes: list[str]
) -> list[Split]:
    """Make both tasks over some of the pictures, as rows of all; ``notes`` receive why one is impossible."""
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


def check_arrays(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    before: NDArray[np.floating[Any]],
    scenes: Indices | None,
) -> None:
    """Raise ValueError where the arguments of ``train_head`` don't fit together."""
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
