"""The two questions: what looks like this product, and what looks like this photo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, BinaryIO

from django.db.models import Model

from ..fields.registry import get_field, named_model
from .answer import Asked, answer, check_limit
from .candidates import fetch, fetch_rows, products
from .closeness import Closeness
from .confidence import Confidence
from .own_picture import only_field, own_picture
from .query import Photo
from .results import Ranking, SearchHit, SearchResults

__all__ = ["SearchHit", "SearchResults", "next_page", "search_by_image", "similar_to"]


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
    found = get_field(field) if field else only_field(product)
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
