"""What ranking sees of a search: the visual neighbours with what is known about each, and staff's rules."""

from __future__ import annotations

from collections.abc import Callable
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
    """That row; where it is the product itself, None or the product."""
    distance: float
    """pgvector's for the field's metric."""
    similarity: float
    """Cosine (-1..1), 1 / (1 + distance) for ``l2``, or the inner product."""
    score: float
    """What the order is by, largest first: the similarity before any ranker ran, and on its scale afterwards."""
    extractor_key: str = ""
    """The vector space that the similarity was measured in."""
    confidence: float | None = None
    """The probability that it is what the query shows, where that was asked for and is known."""
    pair: tuple[float, float] = (0.0, 0.0)
    """Faded (gain, exposure) of this product as a hit of this query product (models.Evidence)."""
    alone: tuple[float, float] = (0.0, 0.0)
    """The same over all queries."""
    vector: Any = None
    """float32 ``(dimensions,)``, where a ranker needs vectors."""
    pinned: bool = False
    """Not among the nearest: read only because a pin names it, and shown only where a ranker pins it."""
    reasons: list[str] = field(default_factory=lambda: [VISUAL])


@dataclass(frozen=True)
class Rule:
    """A models.RankingRule that holds now, for this product model."""

    kind: str
    product_pk: Any
    query_id: str
    slot: int | None
    factor: float


@dataclass(frozen=True)
class RankingContext:
    """What was searched. ``query_id`` is the query product's primary key as text, empty for a photo."""

    embedding: EmbeddingField
    query_id: str
    limit: int
    """How many hits are wanted of the candidates, which may be more."""
    rules: tuple[Rule, ...] = ()
    """Those for this query product and those for every search, older ones first."""


Ranker = Callable[[list[Candidate], RankingContext], list[Candidate]]
"""Takes the candidates best first, and returns those to show, best first, with scores in that order. Attribute
``needs``: what it reads, of "evidence", "vectors" and "rules"."""


@dataclass(frozen=True)
class Wishes:
    """What the rankers of one search need to have read along with the neighbours."""

    query_id: str = ""
    depth: int = 0
    """How many neighbours the rankers choose from."""
    needs: frozenset[str] = frozenset()
    always: bool = False
    """Whether a ranker chooses even where nothing of what it reads is there."""
