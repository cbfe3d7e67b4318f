"""One ranking from the rankings of two vector spaces, whose similarities can't be compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from django.db import connections

from ..db.statements import Memory, ask
from ..fields import EmbeddingField
from ..fields.keys import SEPARATOR
from ..ranking.types import Candidate

# No fixed time: counts are kept 20 times as long as counting took, and a small shop's vectors move within a second.
counts_memory = Memory(seconds=0, times=20.0)
"""Counts of ``rows_by_space``."""


def merge(
    rankings: Sequence[list[Candidate]], rows: dict[str, int], limit: int, pins: Collection[Any]
) -> list[Candidate]:
    """Merge by estimated overall rank: rank i in a space with share s of the rows counts as rank i / s overall.

    ``rankings``: of one space each. ``rows``: how many rows each space has, by extractor key. A product that is in
    several keeps its best place. The scores are dealt out again, the largest to the first, so that rankers see one
    scale; similarities stay as they are. ``pins``: keys of products that stay though they come after ``limit``.
    """
    keys = [ranking[0].extractor_key for ranking in rankings if ranking]
    total = sum(rows.get(key, 0) for key in keys)
    places: dict[Any, tuple[bool, float, Candidate]] = {}
    for ranking in rankings:
        for i, candidate in enumerate(ranking):
            step = total / max(1, rows.get(candidate.extractor_key, 0))
            place = (candidate.pinned, (i + 0.5) * step, candidate)
            best = places.get(candidate.product_pk)
            if best is None or place[:2] < best[:2]:
                places[candidate.product_pk] = place
    ordered = [candidate for _, _, candidate in sorted(places.values(), key=lambda place: place[:2])]
    near = [candidate for candidate in ordered if not candidate.pinned]
    pinned = [candidate for candidate in ordered if candidate.pinned]
    # Among the nearest of its space, a candidate is not marked as pinned.
    pinned += [replace(candidate, pinned=True) for candidate in near[limit:] if candidate.product_pk in pins]
    near = near[:limit]
    for candidate, score in zip(near, sorted((c.score for c in near), reverse=True), strict=True):
        candidate.score = score
    return near + pinned


def rows_by_space(field: EmbeddingField, using: str) -> dict[str, int]:
    """Return how many rows have a vector of each space, by extractor key, as counted a moment ago."""
    connection = connections[using]
    quote, opts = connection.ops.quote_name, field.model._meta
    key = quote(opts.get_field(field.key_name).column)
    sql = (
        f"SELECT split_part({key}, %s, 1), count(*) FROM {quote(opts.db_table)} "
        f"WHERE {quote(field.column)} IS NOT NULL GROUP BY 1"
    )
    answers, _ = ask(connection, {"rows": (counts_memory, (sql, (SEPARATOR,)))})
    return dict(answers["rows"])


def forget_counts() -> None:
    """Count again."""
    counts_memory.forget()
