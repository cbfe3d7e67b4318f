"""``EmbeddingIndex``: the graph index of an embedding field. To migrations it is pgvector's own."""

from __future__ import annotations

from typing import Any

from pgvector.django import HnswIndex

EF_CONSTRUCTION = 128

OPCLASSES = {"cosine": "halfvec_cosine_ops", "l2": "halfvec_l2_ops", "ip": "halfvec_ip_ops"}


class EmbeddingIndex(HnswIndex):
    """HNSW over an EmbeddingField; ``metric`` must be the field's. To migrations it is pgvector's own ``HnswIndex``.

    ``m`` and ``ef_construction`` are pgvector's options. ``ef_construction`` is 128 by default, twice pgvector's: with
    100,000 vectors in tight clusters, a graph built with 64 has no way into some clusters (of 150 queries 4 to 9 found
    less than half of their neighbours, with 128 one). Building takes half as long again, and the index is no larger.
    """

    def __init__(self, *expressions: Any, metric: str = "cosine", **kwargs: Any) -> None:
        if metric not in OPCLASSES:
            raise ValueError(f"EmbeddingIndex: metric is one of {', '.join(OPCLASSES)}, not {metric!r}.")
        if "opclasses" not in kwargs:
            kwargs["opclasses"] = [OPCLASSES[metric]] * len(kwargs.get("fields", ()))
        kwargs.setdefault("ef_construction", EF_CONSTRUCTION)
        super().__init__(*expressions, **kwargs)

    def deconstruct(self) -> tuple[Any, Any, Any]:
        _, args, kwargs = super().deconstruct()
        return f"{HnswIndex.__module__}.{HnswIndex.__qualname__}", args, kwargs

    def _check_postgres_installed(self, *args: Any) -> list[Any]:
        # Django 6 asks for django.contrib.postgres (postgres.E005); HNSW uses nothing that it installs.
        return []

    def __eq__(self, other: object) -> bool:
        # The autodetector compares this with the HnswIndex that the migration made.
        if isinstance(other, HnswIndex):
            return bool(self.deconstruct() == other.deconstruct())
        return NotImplemented

    __hash__ = HnswIndex.__hash__
