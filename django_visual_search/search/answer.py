"""Answers a question: the nearest rows, ranked, with what is known of each hit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Model

from ..conf import conf
from ..fields import EmbeddingField
from ..ranking.loading import needs_of, rankers_for
from ..ranking.types import Candidate, RankingContext, Wishes
from .candidates import fetch, products
from .closeness import Closeness
from .confidence import Confidence
from .merging import both, merge, rows_by_space
from .nearest import Found, Query, nearest
from .query import Photo, Stored
from .results import Place, Ranking, SearchHit, SearchResults


@dataclass(frozen=True)
class Asked:
    """What was asked: the picture, and what it is about."""

    field: EmbeddingField
    picture: Photo | Stored
    kind: str
    query_id: str = ""
    exclude: Any = None
    model: type[Model] | None = None


def answer(
    asked: Asked,
    limit: int,
    depth: int | None,
    within: Any,
    close: Closeness,
    ranking: bool | Iterable[Any] | None,
) -> SearchResults:
    """Ranked hits: the first ``limit`` of a ranking of ``depth`` places. For the arguments see ``search``."""
    field = asked.field
    if depth is not None:
        check_limit(depth, "depth")
    depth = max(limit, depth or 0)
    queryset = products(field, within, asked.model)
    rankers = rankers_for(ranking)
    always = any(not getattr(ranker, "needs", ()) for ranker in rankers)
    wishes = Wishes(asked.query_id, max(depth, conf.RANKING_DEPTH), needs_of(rankers), always)
    near = _near(asked, depth, queryset, wishes, depth == limit)
    query_id = asked.query_id if near.owner is None else str(near.owner)
    confidence = Confidence(field) if near.candidates else None
    order = close.enough(near.candidates, confidence)
    left_out = len(near.candidates) - len(order)
    context = RankingContext(field, query_id, depth, near.rules)
    for ranker in rankers:
        order = ranker(order, context)
    order = order[:depth]
    found = _products_of(field, queryset, order[:limit])
    order = [c for i, c in enumerate(order) if i >= limit or c.product_pk in found]  # deleted since the rows were read
    hits = [
        SearchHit(
            product := found[candidate.product_pk],
            product if candidate.row is None else candidate.row,
            candidate.similarity,
            rank,
            tuple(candidate.reasons),
            candidate.extractor_key,
            _sure(confidence, candidate, product),
        )
        for rank, candidate in enumerate(order, 1)
        if candidate.product_pk in found
    ]
    places = tuple(
        Place(str(c.product_pk), str(c.row_pk if field.product else c.product_pk), c.similarity, tuple(c.reasons))
        for c in order
    )
    settled = Ranking(field.label, asked.kind, query_id, near.extractor_key, near.exact, places, shown=len(hits))
    return SearchResults(hits, settled, near.vector, left_out)


def _sure(confidence: Confidence | None, candidate: Candidate, product: Model) -> float | None:
    if candidate.confidence is not None or confidence is None:
        return candidate.confidence
    return confidence.of_hit(candidate.extractor_key, candidate.similarity, product)


def _products_of(field: EmbeddingField, within: Any, shown: list[Any]) -> dict[Any, Any]:
    if field.product is None and all(candidate.row is not None for candidate in shown):
        return {candidate.product_pk: candidate.row for candidate in shown}
    return fetch(field, within, [candidate.product_pk for candidate in shown])


def _near(asked: Asked, depth: int, within: Any, wishes: Wishes, along: bool) -> Found:
    """The nearest rows; while vectors move from one space to another, those of both, merged."""
    how: dict[str, Any] = {"limit": depth, "within": within, "exclude": asked.exclude, "wishes": wishes}
    how["along"] = along
    near = nearest(asked.field, asked.picture.query(), **how)
    if near.owner is not None:
        how |= {"exclude": near.owner, "wishes": replace(wishes, query_id=str(near.owner))}
    others = [nearest(asked.field, query, **how) for query in asked.picture.others(near.extractor_key)]
    if not others:
        # Where vectors were moving, the last one has moved since; where there are none any more, all had before.
        anew = near.moving or (not near.candidates and asked.picture.moved(near.extractor_key))
        return nearest(asked.field, asked.picture.query(anew=True), **how) if anew else near
    # A row that moved meanwhile was not in the first space before, and is not in the other any more.
    again = replace(nearest(asked.field, Query(near.vector, near.extractor_key), **how), owner=near.owner)
    return merge([both(near, again), *others], rows_by_space(asked.field), max(depth, wishes.depth))


def check_limit(limit: int, name: str = "limit") -> None:
    """Raises ValueError unless it is a whole number from 1 to ``MAX_LIMIT``."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= conf.MAX_LIMIT:
        raise ValueError(f"{name} must be a whole number from 1 to {conf.MAX_LIMIT}, not {limit!r}.")
