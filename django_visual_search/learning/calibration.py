"""Rising curves from similarity to the probability that a hit is right.

Similarity to confidence: the probability that a hit is truly what the query shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Floats, Values, grouping, require

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


METHODS: dict[str, Callable[[Floats, Floats, Floats], Curve]] = {"isotonic": isotonic, "platt": platt}

FEWEST = 30
"""Pairs that a category needs for a curve of its own."""

TRUST = 200
"""Pairs at which a category's own curve counts as much as that of all: its share is n / (n + TRUST)."""

FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """A curve for all hits, and one for each category that had enough pairs, drawn towards it."""

    method: str
    overall: Curve
    categories: Mapping[str, Curve] = field(default_factory=dict)

    def __call__(self, similarities: NDArray[Any] | Sequence[float], categories: Sequence[str] | None = None) -> Floats:
        """The confidence of each hit, 0 to 1, ``(n,)``. ``categories``: those of the hits, as text, where known."""
        similarities = np.asarray(similarities, np.float64)
        confidence = self.overall(similarities)
        if categories is not None:
            if len(categories) != len(similarities):
                raise ValueError(f"There are {len(categories)} categories for {len(similarities)} similarities.")
            names = np.array(categories, dtype=object)
            for name in self.categories.keys() & set(categories):
                own = names == name
                confidence[own] = self.categories[name](similarities[own])
        return confidence

    def similarity_for(self, confidence: float, category: str | None = None) -> float:
        """The least similarity of a hit with that confidence; minus infinity where all have it, infinity where none.

        For a filter in the database: of all categories, the least, unless one is named.
        """
        if category is not None:
            return self.categories.get(category, self.overall).similarity_for(confidence)
        return min(curve.similarity_for(confidence) for curve in (self.overall, *self.categories.values()))

    def as_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for a JSONField."""
        return {
            "method": self.method,
            "overall": _plain(self.overall),
            "categories": {name: _plain(curve) for name, curve in sorted(self.categories.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """What ``as_json`` gave. Raises ValueError where it is anything else."""
        try:
            categories = {str(name): _curve(curve) for name, curve in data["categories"].items()}
            return cls(str(data["method"]), _curve(data["overall"]), categories)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise ValueError(f"This is no stored calibration: {type(e).__name__} {e}. Learn the head again.") from e


def calibrate(
    similarities: NDArray[Any] | Sequence[float],
    right: NDArray[Any] | Sequence[bool],
    *,
    categories: Values | None = None,
    weights: NDArray[Any] | Sequence[float] | None = None,
    method: str | None = None,
) -> Calibration:
    """Learn confidence from pairs of a query and a hit that nothing was learned from: ``similarities``, and ``right``,
    whether the hit is what the query shows.

    ``categories``: of the hits, None or "" where unknown; their text names the curves. ``weights``: how much each pair
    counts, such as less for queries that a shop gets seldom. ``method``: "isotonic", "platt", or None for the one with
    the lower Brier score on pairs left out. Needs scikit-learn (ExtractorUnavailable says so where it is missing).

    Raises ValueError for arrays that don't fit, and where all pairs are right or all wrong: that tells no likelihood.
    """
    x, y = np.asarray(similarities, np.float64), np.asarray(right, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if x.ndim != 1 or y.shape != x.shape or w.shape != x.shape:
        raise ValueError(f"Similarities, what is right and weights are (pairs,), not {x.shape}, {y.shape}, {w.shape}.")
    if not np.isfinite(x).all() or not (np.isfinite(w) & (w >= 0)).all() or not np.isin(y, (0, 1)).all():
        raise ValueError("Similarities and weights must be finite, weights not negative, and a hit is right or not.")
    if method not in (None, *METHODS):
        raise ValueError(f"method must be one of {', '.join(METHODS)} or None, not {method!r}.")
    x, y, w, kept = x[w > 0], y[w > 0], w[w > 0], w > 0
    if not 0 < y.sum() < len(y):
        raise ValueError(
            f"Of {len(y)} pairs, {int(y.sum())} are right: both right and wrong hits are needed to learn how likely a "
            "hit is right."
        )
    name = method or _better(x, y, w)
    fit = METHODS[name]
    overall = fit(x, y, w)
    own: dict[str, Curve] = {}
    if categories is not None:
        named = grouping("category", as_text(categories), len(kept))
        for number, category in enumerate(named.values):
            rows = named.classes[kept] == number
            if rows.sum() >= FEWEST and 0 < y[rows].sum() < rows.sum():
                share = float(rows.sum() / (rows.sum() + TRUST))
                own[str(category)] = fit(x[rows], y[rows], w[rows]).mixed(overall, share)
    return Calibration(name, overall, own)


def as_text(values: Values) -> list[str | None]:
    """Labels as the text that names a category's curve; None where there is none."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [str(value) if value is not None and value == value else None for value in plain]


def brier(confidence: NDArray[Any], right: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Mean squared difference between confidence and truth; 0 is perfect, 0.25 is what 0.5 for all gets."""
    return float(np.average((np.asarray(confidence, float) - np.asarray(right, float)) ** 2, weights=weights))


def calibration_error(confidence: NDArray[Any], right: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from the share that is right, over bins of equally many pairs
    (K. Nguyen and B. O'Connor, "Posterior calibration and exploratory analysis for natural language processing models",
    2015). Pairs of equal confidence share a bin. 0 where there are none."""
    p, y = np.asarray(confidence, float), np.asarray(right, float)
    order = np.argsort(p, kind="stable")
    error, start = 0.0, 0
    while start < len(p):
        end = min(len(p), start + max(1, -(-len(p) // bins)))
        end = int(np.searchsorted(p[order], p[order[end - 1]], side="right"))
        rows = order[start:end]
        error += len(rows) / len(p) * abs(float(p[rows].mean() - y[rows].mean()))
        start = end
    return error


def _better(x: Floats, y: Floats, w: Floats) -> str:
    """The method with the lower Brier score on pairs left out, every fifth at a time."""
    fold = np.arange(len(x)) % FOLDS
    loss = dict.fromkeys(METHODS, 0.0)
    for i in range(FOLDS):
        train, test = fold != i, fold == i
        if test.any() and 0 < y[train].sum() < train.sum():
            for name, fit in METHODS.items():
                p = fit(x[train], y[train], w[train])(x[test])
                loss[name] += brier(p, y[test], w[test]) * float(w[test].sum())
    return min(loss, key=lambda name: loss[name])


def _plain(curve: Curve) -> dict[str, Any]:
    return {
        "similarities": list(curve.similarities),
        "probabilities": list(curve.probabilities),
        "pairs": curve.pairs,
    }


def _curve(data: Mapping[str, Any]) -> Curve:
    return Curve(tuple(map(float, data["similarities"])), tuple(map(float, data["probabilities"])), int(data["pairs"]))
