"""The input of a ranker: candidates near the query, and their context with staff's rules.

Rankers multiply *distances*, on one scale for every metric. For vectors of length one, as extractors make them, that is
the cosine distance (0 to 2) whatever the metric, so the three metrics give the same order: it is 1 - cosine, half the
squared Euclidean distance, and 1 - inner product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..fields import EmbeddingField

VISUAL = "visual"


@dataclass
class Candidate:
    """One product near the query. A ranker may change ``score`` and add to ``reasons``."""

    product_pk: Any
    row_pk: Any
    """Primary key of the row that owns the vector."""
    row: Any
    """The row; where it is the product itself, None or the product."""
    distance: float
    """pgvector's for the field's metric."""
    similarity: float
    """Cosine (-1..1), 1 / (1 + distance) for ``l2``, or the inner product."""
    score: float
    """The key of the order, largest first: the similarity before any ranker ran, and on its scale afterwards."""
    extractor_key: str = ""
    """The vector space that the similarity was measured in."""
    confidence: float | None = None
    """The probability that it is what the query shows, if it was asked for and learned."""
    same_product: float | None = None
    """The probability that it is the very product that a photo shows, if it was learned."""
    pair: tuple[float, float] = (0.0, 0.0)
    """Faded (gain, exposure) of this product as a hit of this query product (models.Evidence)."""
    alone: tuple[float, float] = (0.0, 0.0)
    """The same over all queries."""
    vector: Any = None
    """float32 ``(dimensions,)``, where a ranker needs vectors."""
    pinned: bool = False
    """Whether it is not among the nearest: read because a pin names it, and shown only where a ranker pins it."""
    matched: tuple[Rule, ...] = ()
    """The rules by attribute that lower or boost it."""
    rule: int | None = None
    """Primary key of the rule that gave it its place."""
    reasons: list[str] = field(default_factory=lambda: [VISUAL])


@dataclass(frozen=True)
class Rule:
    """A ``models.RankingRule`` that holds now, for this product model."""

    kind: str
    product_pk: Any
    """None for a rule by attribute."""
    query_id: str
    slot: int | None
    factor: float
    attribute: str = ""
    """Path from the product, as ``db.rows.rows_with`` has it; empty for a rule about one product."""
    value: str = ""
    pk: int | None = None


@dataclass(frozen=True)
class RankingContext:
    """The search. ``query_id`` is the query product's primary key as text, empty for a photo."""

    embedding: EmbeddingField
    query_id: str
    limit: int
    """Number of hits to choose from the candidates, which may be more."""
    rules: tuple[Rule, ...] = ()
    """The rules for this query product and for every search, by slot, then older first."""


Ranker = Callable[[list[Candidate], RankingContext], list[Candidate]]
"""Takes candidates, best first, and returns those to show, best first, with scores in that order. Its attribute
``needs`` names what it reads, of "evidence", "vectors" and "rules"."""


SAME = 1e-3
"""Nearer than this (cosine distance) counts as this: one picture saved twice differs by about as much."""


class Distances:
    """The distance of each candidate, by position; ``put`` writes one back as the candidate's ``score``."""

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
    """Return the candidates by score; those with equal scores stay in their order."""
    return sorted(candidates, key=lambda candidate: -candidate.score)
