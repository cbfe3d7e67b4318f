"""The two questions: what looks like this product, and what looks like this photo.

Answers a question: the nearest rows, ranked, with what is known of each hit.

The picture that a product is searched by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from django.db.models import Model

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.registry import get_field, named_model, search_field
from ..ranking.rankers import needs_of, rankers_for
from ..ranking.types import Candidate, RankingContext, Wishes
from .candidates import fetch, fetch_rows, product_pk, products
from .confidence import Closeness, Confidence
from .merging import both, merge, rows_by_space
from .nearest import Found, Query, nearest
from .query import Photo, Stored
from .results import Place, Ranking, SearchHit, SearchResults


def similar_to(
    product: Model,
    *,
    limit: int = 12,
    within: Any = None,
    field: str | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    ranking: bool | Iterable[Any] | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Products that look like ``product`` (or like the picture of a given companion row), best first, never itself.

    ``within``: a queryset of products to stay in; its ``select_related`` and ``prefetch_related`` are honoured.
    ``field``: label of the embedding field, needed only where products have several. A product with several pictures is
    represented by the first of them that has a vector, in the owning model's default order.
    ``ranking``: False for the visual order, or the rankers to use instead of ``VISUAL_SEARCH["RANKING"]``.
    ``min_confidence``: leave out hits that are less likely than that (0 to 1) to be what the query shows; a fourth
    query where a head has learned that by category. A ValueError where nothing was learned of it.
    ``depth``: how many places the ranking has, where later pages are to continue it (``next_page``).
    Empty, not an error, where the product has no vector yet. At most three queries, and those of ``prefetch_related``.
    Raises LookupError for an unknown field and ValueError for a bad limit, depth or ``within``.
    """
    check_limit(limit)
    found = search_field(type(product), field)
    picture, pk = own_picture(found, product)
    asked = Asked(found, picture, "product", "" if pk is None else str(pk), pk, type(product))
    return answer(asked, limit, depth, within, Closeness(min_similarity, min_confidence), ranking)


def search_by_image(
    file: bytes | BinaryIO,
    label: str,
    *,
    limit: int = 12,
    within: Any = None,
    crop: tuple[float, float, float, float] | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    ranking: bool | Iterable[Any] | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Products that look like a photo, best first.

    ``label``: the embedding field, ``app.Model.field`` (or ``app.Model`` where that is clear).
    ``crop``: ``(x0, y0, x1, y1)`` as fractions of the photo as a person sees it. The others: as for ``similar_to``.
    Raises images.ImageRefused for what is not accepted as a photo, ExtractorUnavailable where the extractor can't run,
    LookupError for an unknown label, and ValueError for a bad limit, depth or ``within``.
    """
    check_limit(limit)
    field = get_field(label)
    asked = Asked(field, Photo(field, file, crop), "photo", model=named_model(label))
    return answer(asked, limit, depth, within, Closeness(min_similarity, min_confidence), ranking)


def next_page(ranking: Ranking, *, limit: int = 12, within: Any = None) -> SearchResults:
    """The hits that follow those shown so far in a ranking, as ``results.read_token`` gives it.

    Products that are not in ``within`` (any more) are left out, and ranks say the place in the ranking. At most
    three queries.
    Raises LookupError where the field is not there any more, and ValueError for a bad limit or ``within``.
    """
    check_limit(limit)
    field = get_field(ranking.label)
    to_python = field.product_model._meta.pk.to_python
    queryset = products(field, within)
    rest = ranking.places[ranking.shown :]
    found = fetch(field, queryset, [to_python(place.product_pk) for place in rest])
    there = [(i, place) for i, place in enumerate(rest, ranking.shown) if to_python(place.product_pk) in found]
    page, shown = there[:limit], len(ranking.places)
    if len(there) > limit:
        shown = there[limit][0]
    rows = fetch_rows(field, [place.row_pk for _, place in page])
    confidence = Confidence(field)
    hits = []
    for i, place in page:
        product = found[to_python(place.product_pk)]
        row = rows.get(place.row_pk) if field.product else product
        sure = confidence.of_hit(ranking.extractor_key, place.similarity, product)
        hits.append(SearchHit(product, row, place.similarity, i + 1, place.reasons, ranking.extractor_key, sure))
    return SearchResults(hits, replace(ranking, shown=shown))


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


def own_picture(field: EmbeddingField, instance: Model) -> tuple[Stored, Any]:
    """The picture that stands for the product, and the product's primary key; None where the search is to find it."""
    known = owner = None
    pk = instance.pk
    if isinstance(instance, field.model):
        # An instance may be older than its vector; an attribute that was never set would cost a query of its own.
        vector, key = instance.__dict__.get(field.attname), instance.__dict__.get(field.key_name)
        if vector is not None and key:
            known = Query(vector, key.partition(":")[0])
        rows = field.model._base_manager.filter(pk=pk)
        if field.product:
            owner, pk = rows.values_list(product_pk(field), flat=True), None
    else:
        rows = field.model._default_manager.filter(**{product_pk(field): pk})
    embedded = rows.filter(**{f"{field.name}__isnull": False, f"{field.key_name}__isnull": False})
    if not embedded.ordered:
        embedded = embedded.order_by("pk")
    return Stored(field, embedded, known, owner), pk
