"""Learn how likely a photo's hit is the very product that it shows, and not only one that looks like it.

Entry function: ``learn_identification``, from ``FirstHits`` of one or several splits. A *known* photo's product is in
the gallery. An *unknown* photo is the same one searched in a gallery without its product: a shop has not everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import FOLDS, MOST_MARGIN, Identification, error_of, left_out, logistic
from .labels import Doubles
from .splits import Indices

UNKNOWN_SHARE = 0.5
"""Share of photos of products assumed to be of one that the shop has not."""


@dataclass(frozen=True)
class FirstHits:
    """The first hits of photos; all arrays are ``(photos,)``."""

    similarities: Doubles
    margins: Doubles
    """By how much the first product is more similar than the second; MOST_MARGIN where there is no second."""
    same: NDArray[np.bool_]
    """Whether the hit is the photo's product."""
    photos: Indices
    """Numbers of the photos; a known and an unknown one have the same."""
    weights: Doubles

    @classmethod
    def pooled(cls, parts: Sequence[FirstHits]) -> FirstHits:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__))


def found_products(
    photos: NDArray[Any],
    gallery: NDArray[Any],
    own: Indices,
    products: Indices,
    numbers: Indices,
    *,
    weight: float = 1.0,
    at_once: int,
) -> FirstHits:
    """Find the first hit of each photo, and where its product is in the gallery, the first hit without it too.

    ``photos`` and ``gallery``: unit vectors ``(p, d)`` and ``(g, d)``. ``own`` and ``products``: numbers of their
    products; negative ones are of no product in the gallery. ``numbers``: of the photos. ``weight``: of each of them.
    ``at_once``: similarities in memory at a time.
    """
    products = np.where(products < 0, -1 - np.arange(len(products)), products)  # pictures of no product are not one
    first, second, same, number = [], [], [], []
    step = max(1, at_once // len(gallery))
    for start in range(0, len(photos), step):
        rows = slice(start, start + step)
        similarities = np.array(photos[rows] @ gallery.T)
        known = (own[rows] >= 0) & np.isin(own[rows], products)
        for some in (np.arange(len(known)), np.flatnonzero(known)):
            best, next_best, hit = _two_best(similarities[some], products)
            first.append(best)
            second.append(next_best)
            same.append((hit == own[rows][some]) & (hit >= 0))
            number.append(numbers[rows][some])
            mine = own[rows][:, None] == products[None]
            similarities[mine & known[:, None]] = -np.inf
    best, next_best = (np.concatenate(part).astype(np.float64) for part in (first, second))
    kept = np.isfinite(best)  # a gallery of one product has nothing else to find
    gaps = np.where(np.isfinite(next_best), best - np.where(np.isfinite(next_best), next_best, 0), MOST_MARGIN)
    found = FirstHits(best, gaps, np.concatenate(same), np.concatenate(number), np.full(len(best), weight))
    return FirstHits(*(getattr(found, name)[kept] for name in FirstHits.__annotations__))


def _two_best(similarities: NDArray[Any], products: Indices) -> tuple[Doubles, Doubles, Indices]:
    """Return the similarities of the best product and of the next one, -inf where there is none, and the best."""
    rows = np.arange(len(similarities))
    hits = similarities.argmax(axis=1)
    best, product = similarities[rows, hits], products[hits]
    rest = np.where(products[None] == product[:, None], -np.inf, similarities)
    return best, rest.max(axis=1), product


def learn_identification(found: FirstHits) -> Identification:
    """Learn from first hits of known and unknown photos.

    Raises ValueError where all or none are the same product, and ExtractorUnavailable without scikit-learn.
    """
    x = np.stack([found.similarities, np.clip(found.margins, -MOST_MARGIN, MOST_MARGIN)], axis=1)
    y = found.same.astype(np.float64)
    if not 0 < y.sum() < len(y):
        raise ValueError("Right and wrong products are needed to learn how likely a hit is the very product.")

    def fit(x: Doubles, y: Doubles, w: Doubles) -> Identification:
        (similarity, margin), level = logistic(x, y, w)
        numbers = [round(float(value), 4) for value in (similarity, margin, level)]
        return Identification(numbers[0], numbers[1], numbers[2], len(np.unique(found.photos)))

    learned = fit(x, y, found.weights)
    apart = np.unique(found.photos, return_inverse=True)[1].reshape(-1) % FOLDS
    without = left_out(lambda *given: lambda rows: fit(*given)(*rows.T), x, y, found.weights, apart)
    return replace(learned, error=error_of(without, y, found.weights))
