"""One ranking from the rankings of two vector spaces, whose similarities can't be compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.db import connections, router

from ..fields import EmbeddingField
from ..ranking.types import Candidate
from .nearest import Found

COUNTED_FOR = 20.0
"""Times what counting took: so long a count is believed. In a small shop all vectors have moved within a second."""
_counted: dict[tuple[str, str], tuple[float, dict[str, int]]] = {}


def merge(found: Sequence[Found], rows: dict[str, int], limit: int) -> Found:
    """By rank: the i-th of a space with a share s of all rows is where the (i / s)-th of all would be.

    ``rows``: how many rows each space has, by extractor key. A product that is in several keeps its best place. Scores
    are dealt out anew, the largest to the first, so that rankers see one scale; similarities stay as they are.
    """
    total = sum(rows.get(one.extractor_key, 0) for one in found)
    places: dict[Any, tuple[bool, float, Candidate]] = {}
    for one in found:
        step = total / max(1, rows.get(one.extractor_key, 0))
        for i, candidate in enumerate(one.candidates):
            place = (candidate.pinned, (i + 0.5) * step, candidate)
            known = places.get(candidate.product_pk)
            if known is None or place[:2] < known[:2]:
                places[candidate.product_pk] = place
    ordered = sorted(places.values(), key=lambda place: place[:2])
    near = [candidate for pinned, _, candidate in ordered if not pinned]
    pinned = [candidate for pinned, _, candidate in ordered if pinned]
    if len(near) > limit:
        pinned += [replace(candidate, pinned=True) for candidate in near[limit:] if _pinned_in(found, candidate)]
        near = near[:limit]
    for candidate, score in zip(near, sorted((c.score for c in near), reverse=True), strict=True):
        candidate.score = score
    return replace(found[0], candidates=near + pinned, exact=all(one.exact for one in found))


def both(one: Found, later: Found) -> Found:
    """What was found in one space, before or later."""
    there = {candidate.product_pk for candidate in later.candidates}
    more = [candidate for candidate in one.candidates if candidate.product_pk not in there]
    if not more:
        return later
    candidates = sorted(later.candidates + more, key=lambda candidate: (candidate.pinned, candidate.distance))
    return replace(later, candidates=candidates)


def rows_by_space(field: EmbeddingField) -> dict[str, int]:
    """How many rows have a vector of each space, by extractor key; remembered for a while."""
    using = router.db_for_read(field.model)
    until, known = _counted.get((using, field.label), (0.0, {}))
    begun = time.monotonic()
    if begun < until:
        return known
    connection = connections[using]
    quote, opts = connection.ops.quote_name, field.model._meta
    key = quote(opts.get_field(field.key_name).column)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT split_part({key}, ':', 1), count(*) FROM {quote(opts.db_table)} "
            f"WHERE {quote(field.column)} IS NOT NULL GROUP BY 1"
        )
        known = dict(cursor.fetchall())
    _counted[using, field.label] = begun + COUNTED_FOR * (time.monotonic() - begun), known
    return known


def forget() -> None:
    """Count again."""
    _counted.clear()


def _pinned_in(found: Sequence[Found], candidate: Candidate) -> bool:
    """Whether a pin names it, which a space in which it is among the nearest doesn't say."""
    return any(rule.kind == "pin" and rule.product_pk == candidate.product_pk for one in found for rule in one.rules)
