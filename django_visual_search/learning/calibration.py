"""Calibrate similarity to confidence: the probability that a hit truly shows the same as the query.

Entry function: ``calibrate`` fits a ``Calibration``, one rising ``ConfidenceCurve`` for all hits and one for each
category with enough pairs, by isotonic regression or Platt scaling. An ``Identification`` beside it says how likely a
hit is the very product of the photo. ``brier`` and ``calibration_error`` measure confidence. A *pair* is a query with a
hit, right or wrong. Applying a calibration needs NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Doubles, Values, grouping, require


@dataclass(frozen=True)
class ConfidenceCurve:
    """Straight lines between points; level before the first and after the last.

    ``similarities`` rise and ``probabilities``, 0 to 1, never fall; ValueError otherwise.
    """

    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]
    pairs: int
    """Number of pairs that it was learned from."""

    def __post_init__(self) -> None:
        x, p = np.array(self.similarities, float), np.array(self.probabilities, float)
        rising = x.size > 0 and x.shape == p.shape and (np.diff(x) > 0).all() and (np.diff(p) >= 0).all()
        if not rising or not np.isfinite(x).all() or not ((p >= 0) & (p <= 1)).all():
            raise ValueError("A curve is rising similarities, each with a probability that doesn't fall.")

    def __call__(self, similarities: NDArray[Any] | float) -> Doubles:
        return np.asarray(np.interp(similarities, self.similarities, self.probabilities), np.float64)

    def similarity_for(self, confidence: float) -> float:
        """Return the lowest similarity with at least that probability; infinity where none reaches it."""
        p = np.array(self.probabilities)
        if confidence <= p[0]:
            return -math.inf
        if confidence > p[-1]:
            return math.inf
        i = int(np.searchsorted(p, confidence, side="left"))
        rise = (confidence - p[i - 1]) / (p[i] - p[i - 1])
        return float(self.similarities[i - 1] + rise * (self.similarities[i] - self.similarities[i - 1]))

    def mixed(self, other: ConfidenceCurve, share: float) -> ConfidenceCurve:
        """Mix ``share`` of this curve with the rest of ``other``; two rising curves give a rising one."""
        x = np.union1d(self.similarities, other.similarities)
        return curve_through(x, share * self(x) + (1 - share) * other(x), self.pairs)


MOST_MARGIN = 0.2
"""Larger margins add nothing: hardly any other product looks like that."""


def margins(similarities: NDArray[Any] | Sequence[float]) -> Doubles:
    """Return the margin of each product of an answer, ``(n,)``: its lead over the best of the others.

    Below zero for all but the first, and MOST_MARGIN where there is no other.
    """
    own = np.asarray(similarities, np.float64)
    if len(own) < 2:
        return np.full(len(own), MOST_MARGIN)
    first = int(own.argmax())
    others = np.full(len(own), own[first])
    others[first] = np.delete(own, first).max()
    return np.asarray(own - others)


@dataclass(frozen=True)
class Identification:
    """The probability that a hit is the very product that a photo shows, if the shop may or may not have it.

    Logistic in the hit's similarity and its margin over the other products (``margins``): among look-alikes, a high
    similarity alone says little. The numbers are the factors of both, and the constant.
    """

    similarity: float
    margin: float
    level: float
    queries: int
    """Number of photos that it was learned from."""
    error: float | None = None
    """Calibration error on photos left out of its learning."""

    def __call__(
        self, similarities: NDArray[Any] | Sequence[float], margins: NDArray[Any] | Sequence[float]
    ) -> Doubles:
        """Return the probability of each hit, ``(n,)``."""
        margin = np.clip(np.asarray(margins, np.float64), -MOST_MARGIN, MOST_MARGIN)
        score = self.similarity * np.asarray(similarities, np.float64) + self.margin * margin + self.level
        return np.asarray(1 / (1 + np.exp(-np.clip(score, -50, 50))))


@dataclass(frozen=True)
class Calibration:
    """A curve for all hits, and one for each category with enough pairs, drawn towards it."""

    method: str
    overall: ConfidenceCurve
    categories: Mapping[str, ConfidenceCurve] = field(default_factory=dict)
    same_product: Identification | None = None
    """How likely a hit is the very product; None where products have nothing to learn that from."""
    further: ConfidenceCurve | None = None
    """Of the hits after the best one, where that one is right; None where hits are right by the product alone."""
    error: float | None = None
    """Calibration error of the curve for all hits, on pairs left out of its learning."""

    def __call__(
        self,
        similarities: NDArray[Any] | Sequence[float],
        categories: Sequence[str] | None = None,
        best: float | None = None,
    ) -> Doubles:
        """Return the confidence of each hit, 0 to 1, ``(n,)``.

        ``categories``: of the hits, as text. ``best``: similarity of the best hit of the answer that they are from;
        without it, each hit is judged as the best of an answer of its own. Whether the shop has what a photo shows is
        seen by the best hit; if it has, much less similar ones are right too: of those at which a best hit has a
        confidence of 0.02 to 0.3, 0.96 to 0.99 were, with photos of the drawn catalogue.
        """
        similarities = own = np.asarray(similarities, np.float64)
        after = np.zeros(len(own), bool)
        if best is not None and self.further is not None:
            after, similarities = similarities < best, np.maximum(similarities, best)
        confidence = self.overall(similarities)
        if categories is not None:
            if len(categories) != len(similarities):
                raise ValueError(f"There are {len(categories)} categories for {len(similarities)} similarities.")
            names = np.array(categories, dtype=object)
            for name in self.categories.keys() & set(categories):
                of_it = names == name
                confidence[of_it] = self.categories[name](similarities[of_it])
        if self.further is not None:
            confidence[after] *= self.further(own[after])
        return confidence

    def similarity_for(self, confidence: float, category: str | None = None) -> float:
        """Return the least similarity of a best hit with that confidence; -inf where all have it, inf where none has.

        For a filter in the database: the least of all categories, unless one is named.
        """
        if category is not None:
            return self.categories.get(category, self.overall).similarity_for(confidence)
        return min(curve.similarity_for(confidence) for curve in (self.overall, *self.categories.values()))

    def describe(self) -> list[str]:
        """Return lines for people: how far confidence is from the truth, on pictures left out of its learning."""
        lines = []
        if self.error is not None:
            lines.append(f"confidence: calibration error {self.error:.3f} over {self.overall.pairs} pairs")
        if self.same_product is not None and self.same_product.error is not None:
            same = self.same_product
            lines.append(f"same product: calibration error {same.error:.3f} over {same.queries} photos")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, for a JSONField."""
        return {
            "method": self.method,
            "overall": _curve_json(self.overall),
            "categories": {name: _curve_json(curve) for name, curve in sorted(self.categories.items())},
            "further": None if self.further is None else _curve_json(self.further),
            "same_product": None if self.same_product is None else asdict(self.same_product),
            "error": self.error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Restore the result of ``as_json``. Raises ValueError for anything else."""
        try:
            categories = {str(name): _curve(curve) for name, curve in data["categories"].items()}
            same, further, error = data.get("same_product"), data.get("further"), data.get("error")
            return cls(
                str(data["method"]),
                _curve(data["overall"]),
                categories,
                None if same is None else Identification(**same),
                None if further is None else _curve(further),
                None if error is None else float(error),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise ValueError(f"The stored calibration is damaged: {type(e).__name__} {e}. Learn the head again.") from e


FEWEST_PAIRS = 30
"""Pairs that a category needs for a curve of its own."""

TRUST = 200
"""Pairs at which a category's own curve counts as much as that of all hits: its share is n / (n + TRUST)."""

FOLDS = 5


def calibrate(
    similarities: NDArray[Any] | Sequence[float],
    right: NDArray[Any] | Sequence[bool],
    *,
    categories: Values | None = None,
    weights: NDArray[Any] | Sequence[float] | None = None,
    method: str | None = None,
) -> Calibration:
    """Learn confidence from held-out pairs, ``(pairs,)``: their ``similarities``, and whether the hit is ``right``.

    ``categories``: of the hits, None or "" where unknown; their text names the curves. ``weights``: how much each pair
    counts, such as less for queries that a shop gets seldom. ``method``: "isotonic", "platt", or None for the one with
    the lower Brier score on pairs left out.

    Raises ValueError for arrays that don't fit, and where all pairs are right or all wrong: these show no likelihood.
    Raises ExtractorUnavailable without scikit-learn.
    """
    x, y = np.asarray(similarities, np.float64), np.asarray(right, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if x.ndim != 1 or y.shape != x.shape or w.shape != x.shape:
        raise ValueError(f"similarities, right and weights are (pairs,), not {x.shape}, {y.shape}, {w.shape}.")
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
    fold = np.arange(len(x)) % FOLDS
    found = {name: left_out(fit, x, y, w, fold) for name, fit in METHODS.items() if method in (None, name)}
    name = method or min(found, key=lambda name: _loss(found[name], y, w))
    fit = METHODS[name]
    overall = fit(x, y, w)
    own: dict[str, ConfidenceCurve] = {}
    if categories is not None:
        named = grouping("category", as_text(categories), len(kept))
        for number, category in enumerate(named.values):
            rows = named.classes[kept] == number
            if rows.sum() >= FEWEST_PAIRS and 0 < y[rows].sum() < rows.sum():
                share = float(rows.sum() / (rows.sum() + TRUST))
                own[str(category)] = fit(x[rows], y[rows], w[rows]).mixed(overall, share)
    return Calibration(name, overall, own, error=error_of(found[name], y, w))


def _loss(found: Doubles, y: Doubles, w: Doubles) -> float:
    """Return the Brier score of the result of ``left_out``."""
    known = ~np.isnan(found)
    return brier(found[known], y[known], w[known]) if known.any() else 0.0


def as_text(values: Values) -> list[str | None]:
    """Return labels as the text that names a category's curve; None where a picture has none."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [str(value) if value is not None and value == value else None for value in plain]


Fit = Callable[[Doubles, Doubles, Doubles], Callable[[Doubles], Doubles]]


def left_out(fit: Fit, x: Doubles, y: Doubles, w: Doubles, fold: NDArray[np.intp]) -> Doubles:
    """Return the probabilities, ``(n,)``, each by what ``fit`` learns without the pair's own fold.

    NaN where that can't be learned.
    """
    found = np.full(len(x), np.nan)
    for i in range(FOLDS):
        train, test = fold != i, fold == i
        if test.any() and 0 < y[train].sum() < train.sum():
            found[test] = fit(x[train], y[train], w[train])(x[test])
    return found


def error_of(found: Doubles, y: Doubles, w: Doubles) -> float | None:
    """Return the calibration error of the result of ``left_out``; None where nothing could be learned."""
    known = ~np.isnan(found)
    return round(float(calibration_error(found[known], y[known], weights=w[known])), 4) if known.any() else None


KNOTS = 64
"""Most points of a curve."""

DOUBT = 2.0
"""Pairs at the overall rate that every step of an isotonic curve is mixed with: 3 right of 3 seen isn't certainty."""


def isotonic(
    similarities: Doubles, right: Doubles, weights: Doubles, *, doubt: float = DOUBT, knots: int = KNOTS
) -> ConfidenceCurve:
    """Fit the nearest rising steps (pool adjacent violators), joined by lines through their middles."""
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
    p = (pairs * hits / mass + doubt * hits.sum() / mass.sum()) / (pairs + doubt)
    # Small steps are drawn further than large ones, which can turn two of them around.
    rising = isotonic_regression(p, sample_weight=pairs, y_min=0, y_max=1)
    return curve_through(middle, rising, len(similarities), knots)


def platt(similarities: Doubles, right: Doubles, weights: Doubles) -> ConfidenceCurve:
    """Fit a logistic curve by maximum likelihood, its targets kept off 0 and 1.

    Level where the likelihood would have it fall. Source: J. Platt, "Probabilistic outputs for support vector
    machines", 1999.
    """
    centre, spread = float(similarities.mean()), float(similarities.std()) or 1.0
    z = (similarities - centre) / spread
    (slope,), level = logistic(z[:, None], right, weights)
    x = np.linspace(similarities.min(), similarities.max(), KNOTS)
    return curve_through(x, 1 / (1 + np.exp(-(slope * (x - centre) / spread + level))), len(similarities))


def logistic(z: Doubles, right: Doubles, weights: Doubles) -> tuple[Doubles, float]:
    """Return the factors, ``(f,)``, and the constant of the likeliest logistic function of ``z``, ``(n, f)``.

    No factor is below zero; targets are kept off 0 and 1 (see ``platt``).
    """
    require()
    from sklearn.linear_model import LogisticRegression

    yes, no = float(right.sum()), float(len(right) - right.sum())
    target = np.where(right > 0, (yes + 1) / (yes + 2), 1 / (no + 2))
    factors = np.zeros(z.shape[1])
    rising = np.arange(z.shape[1])
    while rising.size:
        model = LogisticRegression(C=1e6, max_iter=1000)
        model.fit(
            np.concatenate([z[:, rising], z[:, rising]]),
            np.repeat([1, 0], len(z)),
            sample_weight=np.concatenate([weights * target, weights * (1 - target)]),
        )
        if (model.coef_[0] > 0).all():
            factors[rising] = model.coef_[0]
            return factors, float(model.intercept_[0])
        rising = rising[model.coef_[0] > 0]
    return factors, math.log(float(weights @ target)) - math.log(float(weights @ (1 - target)))


def curve_through(x: Doubles, p: Doubles, pairs: int, knots: int = KNOTS) -> ConfidenceCurve:
    """Draw a curve through the points, or through ``knots`` of them."""
    x, first = np.unique(np.round(x, 6), return_index=True)
    p = np.maximum.accumulate(np.clip(p[first], 0, 1))
    if len(x) > knots:
        some = np.unique(np.round(np.linspace(0, len(x) - 1, knots)).astype(int))
        x, p = x[some], p[some]
    return ConfidenceCurve(tuple(x.tolist()), tuple(np.round(p, 6).tolist()), int(pairs))


METHODS: dict[str, Callable[[Doubles, Doubles, Doubles], ConfidenceCurve]] = {"isotonic": isotonic, "platt": platt}


def brier(confidence: NDArray[Any], right: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Return the mean squared difference between confidence and truth; 0 is perfect, 0.5 for all pairs gets 0.25."""
    return float(np.average((np.asarray(confidence, float) - np.asarray(right, float)) ** 2, weights=weights))


def calibration_error(
    confidence: NDArray[Any], right: NDArray[Any], bins: int = 15, weights: NDArray[Any] | None = None
) -> float:
    """Return the expected calibration error (ECE): how far confidence is from the share of right hits.

    Over bins of equally many pairs (K. Nguyen and B. O'Connor, "Posterior calibration and exploratory analysis for
    natural language processing models", 2015). Pairs of equal confidence share a bin. 0 where there are none.
    """
    p, y = np.asarray(confidence, float), np.asarray(right, float)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, float)
    order = np.argsort(p, kind="stable")
    error, start = 0.0, 0
    while start < len(p):
        end = min(len(p), start + max(1, -(-len(p) // bins)))
        end = int(np.searchsorted(p[order], p[order[end - 1]], side="right"))
        rows = order[start:end]
        error += abs(float(w[rows] @ (p[rows] - y[rows]))) / w.sum()
        start = end
    return error


def _curve_json(curve: ConfidenceCurve) -> dict[str, Any]:
    return {"similarities": list(curve.similarities), "probabilities": list(curve.probabilities), "pairs": curve.pairs}


def _curve(data: Mapping[str, Any]) -> ConfidenceCurve:
    return ConfidenceCurve(
        tuple(map(float, data["similarities"])), tuple(map(float, data["probabilities"])), int(data["pairs"])
    )
