"""The distance that a candidate counts with: the same scale for every metric, so that rankers can multiply it.

For vectors of length one, as extractors make them, it is the cosine distance (0 to 2) whatever the metric, so the three
metrics give the same order: it is 1 - cosine, half the squared Euclidean distance, and 1 - inner product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .types import Candidate

SAME = 1e-3
"""Nearer than this (cosine distance) counts as this: one picture saved twice differs by about as much."""


class Distances:
    """Of each candidate, by position; ``put`` writes one back as the candidate's ``score``."""

    def __init__(self, candidates: Sequence[Candidate], metric: str) -> None:
        self.metric = metric
        self.nearest = 1.0
        """The score at distance 0."""
        if metric == "ip":
            # Longer vectors have larger products than 1; the largest is then the nearest that there is.
            self.nearest = max([1.0, *(candidate.score for candidate in candidates)])
        self.values = [max(SAME, self._distance(candidate.score)) for candidate in candidates]

    def put(self, candidate: Candidate, distance: float) -> None:
        candidate.score = 1 / (1 + math.sqrt(2 * distance)) if self.metric == "l2" else self.nearest - distance

    def _distance(self, score: float) -> float:
        if self.metric == "l2":
            return (1 / score - 1) ** 2 / 2 if score > 0 else math.inf
        return self.nearest - score


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By score; those with equal scores stay in their order."""
    return sorted(candidates, key=lambda candidate: -candidate.score)
