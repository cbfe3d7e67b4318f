"""What a search gives back: ranked hits, and a signed token of what was shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, overload

from django.core import signing

TOKEN_SALT = "django_visual_search.results"
TOKEN_MAX_AGE = 24 * 60 * 60  # seconds


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


class SearchResults:
    """Iterates over SearchHit, best first; ``len()``, indexing and truth work as for a list."""

    def __init__(self, hits: list[SearchHit], *, label: str, extractor_key: str, exact: bool, query: list[Any]) -> None:
        self.hits = hits
        self.label = label
        """The embedding field that was searched."""
        self.extractor_key = extractor_key
        """The vector space that query and hits share; empty where there was no vector to search with."""
        self.exact = exact
        """Whether these are surely the nearest, rather than what the HNSW graph found."""
        self.query = query

    @property
    def token(self) -> str:
        """Signed, for feedback: the field, what was asked, the extractor, and the products shown in their order."""
        shown = [str(hit.product.pk) for hit in self.hits]
        payload = {"f": self.label, "q": self.query, "x": self.extractor_key, "h": shown}
        return signing.dumps(payload, salt=TOKEN_SALT, compress=True)

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


def read_token(token: str, max_age: int = TOKEN_MAX_AGE) -> dict[str, Any]:
    """What a token says: ``f`` field label, ``q`` query, ``x`` extractor key, ``h`` product keys in the order shown.

    Raises django.core.signing.BadSignature (SignatureExpired after ``max_age`` seconds).
    """
    payload: dict[str, Any] = signing.loads(token, salt=TOKEN_SALT, max_age=max_age)
    return payload
