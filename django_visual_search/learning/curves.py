"""Rising curves from similarity to the probability that a hit is right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Floats
from .requirements import require

KNOTS = 64
"""At most so many points make a curve."""

DOUBT = 2.0
"""Pairs at the overall rate that every step of an isotonic curve is mixed with: 3 right of 3 seen isn't certainty."""


@dataclass(frozen=True)
class Curve:
    """Straight lines between points; level before the first and after the last, where nothing was seen.

    ``similarities`` rise and ``probabilities`` never fall. Raises ValueError where they do, or where the numbers are
    none of these.
    """

    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]
    pairs: int
    """How many pairs of a query and a hit it was learned from."""

    def __post_init__(self) -> None:
        x, p = np.array(self.similarities, float), np.array(self.probabilities, float)
        rising = x.size > 0 and x.shape == p.shape and (np.diff(x) > 0).all() and (np.diff(p) >= 0).all()
        if not rising or not np.isfinite(x).all() or not ((p >= 0) & (p <= 1)).all():
            raise ValueError("A curve is rising similarities, each with a probability that doesn't fall.")

    def __call__(self, similarities: NDArray[Any] | float) -> Floats:
        return np.asarray(np.interp(similarities, self.similarities, self.probabilities), np.float64)

    def similarity_for(self, confidence: float) -> float:
        """The lowest similarity with at least that probability; infinity where none reaches it."""
        p = np.array(self.probabilities)
        if confidence <= p[0]:
            return -math.inf
        if confidence > p[-1]:
            return math.inf
        i = int(np.searchsorted(p, confidence, side="left"))
        rise = (confidence - p[i - 1]) / (p[i] - p[i - 1])
        return float(self.similarities[i - 1] + rise * (self.similarities[i] - self.similarities[i - 1]))

    def mixed(self, other: Curve, share: float) -> Curve:
        """``share`` of this curve and the rest of ``other``; two rising curves give a rising one."""
        x = np.union1d(self.similarities, other.similarities)
        return curve(x, share * self(x) + (1 - share) * other(x), self.pairs)


def isotonic(similarities: Floats, right: Floats, weights: Floats) -> Curve:
    """The rising steps nearest to what was seen (pool adjacent violators), joined by lines through their middles."""
    require()
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(similarities, kind="stable")
    x, first = np.unique(similarities[order], return_index=True)
    weight = np.add.reduceat(weights[order], first)
    hits = np.add.reduceat((weights * right)[order], first)
    steps = isotonic_regression(hits / weight, sample_weight=weight, y_min=0, y_max=1)
    starts = np.flatnonzero(np.r_[True, np.diff(steps) > 0])
    mass, hits = np.add.reduceat(weight, starts), np.add.reduceat(hits, starts)
    middle = np.add.reduceat(weight * x, starts) / mass
    pairs = mass * (len(similarities) / weights.sum())
    p = (pairs * hits / mass + DOUBT * hits.sum() / mass.sum()) / (pairs + DOUBT)
    # Small steps are drawn further than large ones, which can turn two of them around.
    return curve(middle, isotonic_regression(p, sample_weight=pairs, y_min=0, y_max=1), len(similarities))


def platt(similarities: Floats, right: Floats, weights: Floats) -> Curve:
    """A logistic curve by maximum likelihood over the similarities seen, its targets kept off 0 and 1 (J. Platt,
    "Probabilistic outputs for support vector machines", 1999). Level where likelihood would have it fall."""
    require()
    from sklearn.linear_model import LogisticRegression

    yes, no = float(right.sum()), float(len(right) - right.sum())
    target = np.where(right > 0, (yes + 1) / (yes + 2), 1 / (no + 2))
    centre, spread = float(similarities.mean()), float(similarities.std()) or 1.0
    z = (similarities - centre) / spread
    model = LogisticRegression(C=1e6, max_iter=1000)
    model.fit(
        np.concatenate([z, z])[:, None],
        np.repeat([1, 0], len(z)),
        sample_weight=np.concatenate([weights * target, weights * (1 - target)]),
    )
    slope = max(0.0, float(model.coef_[0, 0]))
    level = float(model.intercept_[0])
    if not slope:
        level = math.log(float(weights @ target)) - math.log(float(weights @ (1 - target)))
    x = np.linspace(similarities.min(), similarities.max(), KNOTS)
    return curve(x, 1 / (1 + np.exp(-(slope * (x - centre) / spread + level))), len(similarities))


def curve(x: Floats, p: Floats, pairs: int) -> Curve:
    """A Curve through the points, or through KNOTS of them."""
    x, first = np.unique(np.round(x, 6), return_index=True)
    p = np.maximum.accumulate(np.clip(p[first], 0, 1))
    if len(x) > KNOTS:
        knots = np.unique(np.round(np.linspace(0, len(x) - 1, KNOTS)).astype(int))
        x, p = x[knots], p[knots]
    return Curve(tuple(x.tolist()), tuple(np.round(p, 6).tolist()), int(pairs))
