"""Chooses how a head is learned on pictures held out, and says how much better it is than before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from .labels import Labels, Values
from .lda import HeadLearner, Settings
from .metrics import Metrics, PerQuery, evaluate
from .moments import Moments
from .splits import Indices, Split

Embed = Callable[[NDArray[Any]], NDArray[np.float32]]

SHRINKAGES = (0.05, 0.1, 0.2, 0.35, 0.6)
RESIDUALS = (0.02, 0.05, 0.1)

TOLERANCE = 0.002
"""Of the objective: among settings that are as good to within that, the one with the largest residual is taken, for
nothing held out here measures what it is for."""


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
    for split in splits:
        learner = HeadLearner(Moments(features[split.train], take(labels, split.train)))
        for settings, row in zip(grid, found, strict=True):
            head = learner.head(settings).head
            row.append(measure(features, labels[target], split, embed_by(head), scenes=scenes).mean())
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
) -> PerQuery:
    """How well the held-out pictures are found, every picture with the same ``target`` label being right.

    Unseen pictures are searched for among those that were learned from, as a customer's photo is in the catalogue.
    Unseen products are searched for among each other, a picture never finding itself nor, with ``scenes``, its own
    scene. Raises ValueError where nothing could be found right.
    """
    values = np.empty(len(target), dtype=object)
    values[:] = list(target.tolist() if isinstance(target, np.ndarray) else target)
    known = np.array([value is not None and value != "" for value in values])
    held = split.held_out[known[split.held_out]]
    queries = embed(features[held])
    if split.task == "unseen pictures":
        gallery = split.train
        return evaluate(queries @ embed(features[gallery]).T, values[held][:, None] == values[gallery][None])
    own = np.arange(len(features)) if scenes is None else scenes
    return evaluate(
        queries @ queries.T,
        values[held][:, None] == values[held][None],
        candidates=own[held][:, None] != own[held][None],
    )


def embed_by(head: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Embed:
    """Features to unit vectors by a head, as an extractor makes them."""
    return lambda features: l2_normalise(head(np.asarray(features, np.float32)))


def take(labels: Labels, rows: Indices) -> dict[str, Values]:
    """The labels of some rows."""
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[int(i)] for i in rows]
        for name, values in labels.items()
    }


def _objective(metrics: Sequence[Metrics]) -> float:
    return float(np.mean([(one.recall[1] + one.mean_average_precision) / 2 for one in metrics]))
