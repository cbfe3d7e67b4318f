"""The public searches by a product, a photo or a text, and the next page of each.

A search goes one way: the query's vector, the nearest products (``nearest``), the order by looks and words where there
are words (``words``), those that are close enough (``confidence``), the rankers in turn (``ranking``), the products
themselves, and the results with their token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from django.db import router
from django.db.models import Model, QuerySet
from django.views.decorators.debug import sensitive_variables

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.registry import get_field, named_model, search_field
from ..images import Photo
from ..ranking.rankers import rankers_for
from ..ranking.types import RankingContext
from .candidates import catalogue_model, database_of, fetch, fetch_rows, products, unlimited
from .confidence import Confidence, ConfidenceUnknown, best_of, close_enough
from .nearest import nearest
from .query import Query, loaded_query, photo_queries, stored_picture
from .results import Place, Ranking, SearchHit, SearchResults
from .words import Words, check_text, fuse, read_words, standing_queries


def similar_to(
    product: Model,
    *,
    limit: int = 12,
    within: Any = None,
    field: str | None = None,
    text: str | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    ranking: bool | Iterable[Any] | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Return products that look like ``product``, or like the picture of a companion row; best first, never itself.

    ``within``: a queryset of products to stay in; its ``select_related`` and ``prefetch_related`` are honoured.
    ``field``: label of the embedding field, needed only where products have several. A product with several pictures is
    represented by the first of them that has a vector, in the owning model's default order.
    ``text``: words beside the picture, as in "like this, but blue": see ``search_by_text``. They move the query by
    ``TEXT_WEIGHT``, and of the products near it, those whose text matches come first. Hits then have no confidence.
    ``ranking``: False for the visual order, or the rankers to use instead of ``VISUAL_SEARCH["RANKING"]``.
    ``min_confidence``: the least probability (0 to 1) that a hit is what the query shows; a fourth query where a head
    has learned it by category.
    ``depth``: how many places the ranking has, for later pages to continue it (``next_page``).
    Empty where the product has no vector yet. At most three queries, and those of ``prefetch_related``.
    Raises LookupError for an unknown field, ConfidenceUnknown (a ValueError) for a ``min_confidence`` that was never
    learned or comes with a text, TextUnavailable (a ValueError) where searches by text are not set up, and ValueError
    for a bad limit, depth, ``within`` or text.
    """
    check_limit(limit)
    embedding = search_field(product._meta.model, field)
    exclude = product.pk if isinstance(product, embedding.product_model) else None
    queryset = products(embedding, within, catalogue_model(embedding, product._meta.model))
    if queryset._db is None and product._state.db:
        queryset = queryset.using(router.db_for_read(embedding.model, instance=product))
    loaded = loaded_query(embedding, product, database_of(embedding, queryset))
    query = stored_picture(embedding, product) if loaded is None else [loaded]
    bounds = min_similarity, min_confidence
    if text is None:
        return ranked_results(embedding, "product", query, exclude, queryset, limit, depth, bounds, ranking)
    words = words_beside(embedding, text, queryset, limit, depth, min_confidence)
    return ranked_results(embedding, "text", query, exclude, queryset, limit, depth, bounds, ranking, words)


@sensitive_variables("file")
def search_by_image(
    file: Photo,
    label: str,
    *,
    limit: int = 12,
    within: Any = None,
    crop: tuple[float, float, float, float] | None = None,
    text: str | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    ranking: bool | Iterable[Any] | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Return products that look like a photo, best first.

    ``label``: the embedding field, ``app.Model.field`` (or ``app.Model`` where that is clear).
    ``crop``: ``(x0, y0, x1, y1)`` as fractions of the photo as a person sees it. The others: as for ``similar_to``.
    As many queries as ``similar_to``, and one more every ten seconds, to learn which spaces are live. Raises
    images.ImageRefused for a file that is not accepted as a photo, DecoderLost where the machine was too busy to decode
    it in ``DECODE_SECONDS``, ExtractorUnavailable where the extractor can't run or its model has to be exported first,
    LookupError for an unknown label, and ValueError as ``similar_to``.
    """
    check_limit(limit)
    field = get_field(label)
    queryset = products(field, within, named_model(label))
    words = None if text is None else words_beside(field, text, queryset, limit, depth, min_confidence)
    query = photo_queries(field, file, crop, database_of(field, queryset))
    return photo_results(field, query, queryset, limit, depth, (min_similarity, min_confidence), ranking, words)


def search_by_queries(
    queries: Sequence[Query],
    label: str,
    *,
    limit: int = 12,
    within: Any = None,
    text: str | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    ranking: bool | Iterable[Any] | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Return products that look like a photo that was embedded before: ``queries`` of its ``SearchResults``.

    The other arguments, queries and errors: as for ``search_by_image``; nothing is decoded or embedded.
    """
    check_limit(limit)
    field = get_field(label)
    queryset = products(field, within, named_model(label))
    words = None if text is None else words_beside(field, text, queryset, limit, depth, min_confidence)
    return photo_results(field, queries, queryset, limit, depth, (min_similarity, min_confidence), ranking, words)


def photo_results(
    field: EmbeddingField,
    queries: Sequence[Query],
    within: QuerySet[Any],
    limit: int,
    depth: int | None,
    bounds: tuple[float | None, float | None],
    ranking: bool | Iterable[Any] | None,
    words: Words | None,
) -> SearchResults:
    """Return ``ranked_results`` for a photo's queries, which they carry."""
    kind = "photo" if words is None else "text"
    results = ranked_results(field, kind, queries, None, within, limit, depth, bounds, ranking, words)
    results.queries = tuple(queries)
    return results


def search_by_text(
    text: str,
    label: str,
    *,
    limit: int = 12,
    within: Any = None,
    min_similarity: float | None = None,
    ranking: bool | Iterable[Any] | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Return products that look like what a text says, or whose own text says it, best first.

    Two orders are fused: by the pictures that are near the text, where a text head was learned for the space that
    serves (``manage.py train_embedding --text``) or the extractor has a text tower; and by PostgreSQL's full text
    search over ``TEXT_FIELDS``. Hits that the latter found have "text" among their ``reasons``. With full text alone,
    only products whose text matches are found. Products without a vector are not found.
    ``min_similarity``: of a hit's picture to the text. The others: as for ``search_by_image``. Empty for a text without
    a term that is known. At most six queries: three as ``similar_to``, and three for texts. Raises TextUnavailable (a
    ValueError) where there is neither source, LookupError for an unknown label, and ValueError for a text that is
    empty, longer than 200 characters or has NUL characters, and as ``similar_to``.
    """
    check_limit(limit)
    field = get_field(label)
    queryset = products(field, within, named_model(label))
    words = read_words(field, check_text(text), queryset, max(limit, depth or 0), beside=False)
    if words.places:
        query = [Query(place.vector, key) for key, place in words.places.items()]
    else:
        query = standing_queries(field, words)
        queryset = unlimited(queryset).filter(pk__in=list(words.matches))
    return ranked_results(field, "words", query, None, queryset, limit, depth, (min_similarity, None), ranking, words)


def words_beside(
    field: EmbeddingField,
    text: str,
    within: QuerySet[Any],
    limit: int,
    depth: int | None,
    min_confidence: float | None,
) -> Words:
    """Return the words beside a picture. Raise ConfidenceUnknown with a ``min_confidence``."""
    if min_confidence is not None:
        raise ConfidenceUnknown("Confidence is learned of pictures: leave out min_confidence, or the text.")
    return read_words(field, check_text(text), within, max(limit, depth or 0), beside=True)


def next_page(ranking: Ranking, *, limit: int = 12, within: Any = None) -> SearchResults:
    """Return the hits that follow those shown so far in a ranking, as ``results.read_token`` gives it.

    Products that are no longer in ``within`` are left out; a rank is the place in the ranking. At most three queries.
    Raises LookupError for a field that was removed, and ValueError for a bad limit or ``within``.
    """
    check_limit(limit)
    field = get_field(ranking.label)
    to_python = field.product_model._meta.pk.to_python  # places have keys as instances show them
    queryset = products(field, within)
    rest = ranking.places[ranking.shown :]
    found = fetch(field, queryset, [to_python(place.product_pk) for place in rest])
    left = [(i, place) for i, place in enumerate(rest, ranking.shown) if to_python(place.product_pk) in found]
    page, shown = left[:limit], len(ranking.places)
    if len(left) > limit:
        shown = left[limit][0]
    using = database_of(field, queryset)
    rows = fetch_rows(field, [place.row_pk for _, place in page], using)
    confidence = Confidence(field, blank=[ranking.extractor_key] if ranking.blank else (), using=using)
    same: dict[int, float | None] = {}
    if ranking.query_kind == "photo":
        every = [(ranking.extractor_key, place.similarity) for place in ranking.places]
        same = dict(enumerate(confidence.same_products(every)))
    best = max((place.similarity for place in ranking.places), default=0.0)
    hits = []
    for i, place in page:
        product = found[to_python(place.product_pk)]
        row = rows.get(place.row_pk) if field.product else product
        sure = confidence.of_hit(ranking.extractor_key, place.similarity, product, best)
        hits.append(
            SearchHit(product, row, place.similarity, i + 1, place.reasons, ranking.extractor_key, sure, same.get(i))
        )
    return SearchResults(hits, replace(ranking, shown=shown))


def ranked_results(
    field: EmbeddingField,
    kind: str,
    query: Sequence[Query] | QuerySet[Any],
    exclude: Any,
    within: QuerySet[Any],
    limit: int,
    depth: int | None,
    bounds: tuple[float | None, float | None],
    ranking: bool | Iterable[Any] | None,
    words: Words | None = None,
) -> SearchResults:
    """Return ranked hits: the first ``limit`` of a ranking of ``depth`` places. ``bounds``: of ``close_enough``."""
    if depth is not None:
        check_limit(depth, "depth")
    depth = max(limit, depth or 0)
    rankers = rankers_for(ranking)
    # Of a photo's first hit, the second says whether it is the very product or one of several that look alike.
    sought = max(depth, 2) if kind == "photo" else depth
    found = nearest(
        field,
        query,
        limit=sought if words is None else max(depth, conf.RANKING_DEPTH),
        within=within,
        exclude=exclude,
        rankers=rankers,
        toward=None if words is None else words.directions if kind == "text" else {},
        named=() if words is None else list(words.matches),
    )
    order, confidence = found.candidates, None
    blank = () if isinstance(query, QuerySet) else [one.extractor_key for one in query if one.blank]
    if words is not None:
        order = [one for one in fuse(field, words, order) if bounds[0] is None or one.similarity >= bounds[0]]
    elif order:
        confidence = Confidence(field, found.live, blank=blank, using=database_of(field, within))
        if kind == "photo":
            same = confidence.same_products([(one.extractor_key, one.similarity) for one in order])
            for candidate, sure in zip(order, same, strict=True):
                candidate.same_product = sure
        order = close_enough(order, confidence, *bounds)
    left_out = len(found.candidates) - len(order)
    context = RankingContext(field, found.query_id, depth, found.rules)
    for ranker in rankers:
        order = ranker(order, context)
    order = order[:depth]

    fetched = fetch(field, within, [candidate.product_pk for candidate in order[:limit]])
    order = [c for i, c in enumerate(order) if i >= limit or c.product_pk in fetched]  # others were deleted meanwhile
    best = best_of((candidate.extractor_key, candidate.similarity) for candidate in found.candidates)
    hits = []
    for rank, candidate in enumerate(order, 1):
        if candidate.product_pk in fetched:
            product = fetched[candidate.product_pk]
            sure = candidate.confidence
            if sure is None and confidence is not None:
                key = candidate.extractor_key
                sure = confidence.of_hit(key, candidate.similarity, product, best.get(key, candidate.similarity))
            row = product if candidate.row is None else candidate.row
            reasons = tuple(candidate.reasons)
            space, same_product = candidate.extractor_key, candidate.same_product
            hits.append(SearchHit(product, row, candidate.similarity, rank, reasons, space, sure, same_product))
    places = tuple(
        Place(
            str(c.product_pk), str(c.row_pk if field.product else c.product_pk), c.similarity, tuple(c.reasons), c.rule
        )
        for c in order
    )
    whole = Ranking(
        *(field.label, kind, found.query_id, found.extractor_key, found.exact, places),
        shown=len(hits),
        blank=found.extractor_key in blank,
    )
    return SearchResults(hits, whole, found.vector, left_out)


def check_limit(limit: int, name: str = "limit") -> None:
    """Raise ValueError unless ``limit`` is a whole number from 1 to ``MAX_LIMIT``; ``name``: the argument's."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= conf.MAX_LIMIT:
        raise ValueError(f"{name} must be a whole number from 1 to {conf.MAX_LIMIT}, not {limit!r}.")
