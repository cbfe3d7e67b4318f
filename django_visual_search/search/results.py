"""The results of a search: ranked hits, and a signed token of the ranking and of how far it was shown.

Entry functions: ``SearchResults`` and ``read_token``. A ranking has *places*, of which pages show hits.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from django.core import signing

TOKEN_SALT = "django_visual_search.results"
TOKEN_MAX_AGE = 24 * 60 * 60  # seconds
CLOCK_SKEW = 60  # seconds that the clocks of two servers may differ
SAME_PRODUCT = 0.5
"""The least ``SearchHit.same_product`` of hits that are shown as the very product."""
SIMILARITY_UNIT = 10_000
"""Tokens carry similarities as whole numbers of 1 / SIMILARITY_UNIT."""


@dataclass(frozen=True)
class SearchHit:
    """One product that was found."""

    product: Any
    row: Any
    """The row that owns the vector: the product itself, or the companion of the picture that matched."""
    similarity: float
    """Cosine (-1..1), 1 / (1 + distance) for ``l2``, or the inner product."""
    rank: int
    """1 for the first."""
    reasons: tuple[str, ...] = ("visual",)
    """Why it has this rank: "visual", and the reasons that rankers added, such as "feedback" or "pinned"."""
    extractor_key: str = ""
    """The vector space that the similarity was measured in."""
    confidence: float | None = None
    """The probability that it is what the query shows, 0 to 1; None without a learned calibration."""
    same_product: float | None = None
    """The probability that it is the very product that the photo shows, 0 to 1; None where the query was no photo, and
    where that was not learned."""

    @property
    def is_same_product(self) -> bool:
        """Return whether it probably is the very product that the photo shows."""
        return self.same_product is not None and self.same_product >= SAME_PRODUCT


@dataclass(frozen=True)
class Place:
    """One place of the ranking: enough to show the hit later, on another page."""

    product_pk: str
    row_pk: str
    similarity: float
    reasons: tuple[str, ...] = ("visual",)
    rule: int | None = None
    """Primary key of the ranking rule that gave it its place."""


@dataclass(frozen=True)
class Ranking:
    """The whole order of a search, and how much of it has been shown."""

    label: str
    """The embedding field."""
    query_kind: str
    """product, photo or text."""
    query_id: str
    """Primary key of the product asked about; empty for a photo."""
    extractor_key: str
    exact: bool
    places: tuple[Place, ...] = ()
    shown: int = 0
    """Number of places shown so far, on this page and the ones before."""
    search: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Id of the search, the same for all its pages."""
    blank: bool = False
    """Whether the photo showed nothing, so that no hit is what it shows."""

    @property
    def more(self) -> bool:
        """Return whether some places have not been shown."""
        return self.shown < len(self.places)

    def sign(self) -> str:
        """Return the signed token, for ``read_token``."""
        reasons = [list(place.reasons) for place in self.places]
        payload: dict[str, Any] = {
            "f": self.label,
            "q": [self.query_kind, self.query_id],
            "x": self.extractor_key,
            "e": int(self.exact),
            "h": [place.product_pk for place in self.places],
            "s": [round(place.similarity * SIMILARITY_UNIT) for place in self.places],
            "n": self.shown,
            "i": self.search,
        }
        if any(place.row_pk != place.product_pk for place in self.places):
            payload["r"] = [place.row_pk for place in self.places]
        if any(why != ["visual"] for why in reasons):
            payload["w"] = reasons
        if any(place.rule is not None for place in self.places):
            payload["u"] = [place.rule for place in self.places]
        if self.blank:
            payload["b"] = 1
        return signing.dumps(payload, salt=TOKEN_SALT, compress=True)


def read_token(token: str, max_age: float = TOKEN_MAX_AGE) -> Ranking:
    """Return the ranking that a token carries; only its first ``shown`` places were offered to the token's holder.

    Raises django.core.signing.BadSignature (SignatureExpired after ``max_age`` seconds).
    """
    payload = signing.loads(token, salt=TOKEN_SALT, max_age=max_age)
    signed_at = signing.b62_decode(token.rsplit(":", 2)[1])
    if signed_at > time.time() + CLOCK_SKEW:
        raise signing.BadSignature("The token is from the future.")
    keys = payload["h"]
    rows, reasons = payload.get("r", keys), payload.get("w", [["visual"]] * len(keys))
    rules = payload.get("u", [None] * len(keys))
    places = tuple(
        Place(key, row, similarity / SIMILARITY_UNIT, tuple(why), rule)
        for key, row, similarity, why, rule in zip(keys, rows, payload["s"], reasons, rules, strict=True)
    )
    kind, query_id = payload["q"]
    return Ranking(
        *(payload["f"], kind, query_id, payload["x"], bool(payload["e"]), places, payload["n"], payload["i"]),
        blank=bool(payload.get("b")),
    )


class SearchResults:
    """Iterates over SearchHit, best first; ``len()``, indexing and truth work as for a list."""

    def __init__(self, hits: list[SearchHit], ranking: Ranking, vector: Any = None, left_out: int = 0) -> None:
        self.hits = hits
        self.ranking = ranking
        """The whole order, of which the hits are a part."""
        self.vector = vector
        """The query's vector, ``(dimensions,)``; None on later pages, and where there was none."""
        self.left_out = left_out
        """Number of the nearest that did not reach ``min_similarity`` or ``min_confidence``."""
        self.queries: Sequence[Any] = ()
        """The photo's vector in each live space, before any text moved it, for ``search_by_queries``; empty where the
        query was no photo, and on later pages."""

    @property
    def label(self) -> str:
        """The embedding field that was searched."""
        return self.ranking.label

    @property
    def extractor_key(self) -> str:
        """The vector space that query and hits share; empty where there was no vector to search with."""
        return self.ranking.extractor_key

    @property
    def exact(self) -> bool:
        """Return whether these are surely the nearest, and not an approximation by the HNSW graph."""
        return self.ranking.exact

    @property
    def same_products(self) -> list[SearchHit]:
        """Return the hits that probably are the very product that the photo shows: mostly one or none."""
        return [hit for hit in self.hits if hit.is_same_product]

    @property
    def similar(self) -> list[SearchHit]:
        """Return the other hits, in the same order."""
        return [hit for hit in self.hits if not hit.is_same_product]

    @property
    def nothing_close(self) -> bool:
        """Return whether products were found, but none that is close enough."""
        return not self.hits and self.left_out > 0

    @property
    def token(self) -> str:
        """Return the ranking with how far it was shown, signed: for feedback and for the next page."""
        return self.ranking.sign()

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> SearchHit: ...

    @overload
    def __getitem__(self, index: slice) -> list[SearchHit]: ...

    def __getitem__(self, index: int | slice) -> SearchHit | list[SearchHit]:
        return self.hits[index]

    def __repr__(self) -> str:
        return f"<SearchResults: {len(self.hits)} of {self.label}, {'exact' if self.exact else 'approximate'}>"
