"""The searches of the shop's pages, within the products that a visitor may see (``visibility``).

Entry functions: ``similar_items``, ``search_by_photo``, ``search_by_handle`` and ``search_by_words``. Every interface,
the API too, asks ``visible`` for the products that ``VISUAL_SEARCH["VISIBLE"]`` allows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from django.db import Error, connections, router, transaction
from django.db.models import Model
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from .. import feedback, search
from ..conf import conf
from ..fields.registry import get_field, named_model, search_field
from ..images import Photo
from ..models import SearchLog
from ..search import SearchResults
from ..search.candidates import catalogue_model
from ..search.confidence import Confidence
from ..search.results import Ranking
from .facets import narrowed
from .handles import read_handle
from .visibility import visible_rule, visible_within

logger = logging.getLogger("django_visual_search")


def similar_items(
    product: Model | None,
    request: HttpRequest | None = None,
    *,
    limit: int = 8,
    within: Any = None,
    field: str | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    log: bool = True,
) -> SearchResults:
    """Return visible products that look like ``product``, best first, in at most three queries.

    ``within``: a queryset to stay in; None means all visible products. ``log``: whether it is a person's search. The
    other arguments: as for ``search.similar_to``. Empty where ``product`` is None or has no vector; empty too, with an
    error in the log, where the database fails: so that the page around it is shown. (The error is raised inside a
    transaction that it has ended: what the page wrote is lost.) Raises ValueError and LookupError as
    ``search.similar_to``, and TypeError for a ``product`` that is not a model's instance.
    """
    if product is None:
        return _nothing()
    if not isinstance(product, Model):
        raise TypeError(f"Similar items need a product, not {product!r}. Is the variable's name right?")
    found = search_field(product._meta.model, field)
    model = product._meta.model if visible_rule(product._meta.model) else catalogue_model(found, product._meta.model)
    allowed = visible_within(model, request, within)
    connection = connections[router.db_for_read(found.model)]
    started = time.perf_counter()
    try:
        with transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext():
            results = search.similar_to(
                product,
                limit=limit,
                within=allowed,
                field=found.label,
                min_similarity=min_similarity,
                min_confidence=min_confidence,
            )
    except Error:
        if connection.needs_rollback:
            raise
        logger.exception("visual search: no similar items for %s %s", product._meta.label, product.pk)
        return _nothing(found.label, str(product.pk))
    if log:
        _log_results(results, started, request)
    return results


@sensitive_variables("photo")
def search_by_photo(
    photo: Photo,
    label: str,
    request: HttpRequest | None = None,
    *,
    limit: int = 24,
    within: Any = None,
    crop: tuple[float, float, float, float] | None = None,
    text: str | None = None,
    facets: Mapping[str, str] | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    depth: int | None = None,
) -> SearchResults:
    """Return visible products that look like a photo. Call it in a ``gate.photo_slot()``: decoding takes memory.

    ``within``: as for ``similar_items``. ``facets``: values, as text, that products have to have, by the path of their
    field (``{"brand__country": "DE"}``). ``min_confidence``: by default ``MIN_CONFIDENCE``, once confidence was
    learned and there is no ``text``; 0 for none. The other arguments and errors: as for ``search.search_by_image``.
    """
    started = time.perf_counter()
    how: dict[str, Any] = {"limit": limit, "within": allowed_products(label, request, within, facets), "text": text}
    how |= {"min_similarity": min_similarity, "min_confidence": _confident(label, text, min_confidence)}
    results = search.search_by_image(photo, label, crop=crop, depth=depth, **how)
    _log_results(results, started, request)
    return results


def search_by_handle(
    handle: str,
    label: str,
    request: HttpRequest | None = None,
    *,
    limit: int = 24,
    within: Any = None,
    text: str | None = None,
    facets: Mapping[str, str] | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    depth: int | None = None,
    options: Sequence[str] = (),
) -> SearchResults:
    """Return visible products that look like a photo that was searched by before: ``handles.handle_of`` its results.

    Nothing is decoded or embedded, so it needs no ``photo_slot``. ``options``: what else makes this another search than
    the photo's first, beside ``text`` and ``facets``, such as a filter of ``within``. The same search by the same photo
    is one search in the log and in feedback.
    Raises HandleExpired for a handle that doesn't hold. The other arguments and errors: as for ``search_by_photo``.
    """
    started = time.perf_counter()
    query = read_handle(handle, get_field(label), request)
    how: dict[str, Any] = {"limit": limit, "within": allowed_products(label, request, within, facets), "text": text}
    how |= {"min_similarity": min_similarity, "min_confidence": _confident(label, text, min_confidence)}
    results = search.search_by_queries(query.queries, label, depth=depth, **how)
    chosen = [f"text={text}"] if text else []
    chosen += sorted(f"{path}={value}" for path, value in (facets or {}).items())
    results.ranking = replace(results.ranking, search=query.search_id(*chosen, *options))
    _log_results(results, started, request)
    return results


def search_by_words(
    text: str,
    label: str,
    request: HttpRequest | None = None,
    *,
    limit: int = 24,
    within: Any = None,
    min_similarity: float | None = None,
) -> SearchResults:
    """Return visible products that look like what a text says, or whose own text says it.

    ``within``: as for ``similar_items``. The other arguments and errors: as for ``search.search_by_text``.
    """
    started = time.perf_counter()
    shown = allowed_products(label, request, within)
    results = search.search_by_text(text, label, limit=limit, within=shown, min_similarity=min_similarity)
    _log_results(results, started, request)
    return results


def allowed_products(
    label: str, request: HttpRequest | None, within: Any, facets: Mapping[str, str] | None = None
) -> Any:
    """Return the visible products of the label's model that are in ``within`` and have the facets' values."""
    field, model = get_field(label), named_model(label)
    if model is None or not issubclass(model, field.product_model):
        model = field.product_model
    found = visible_within(model, request, within)
    for path, value in (facets or {}).items():
        found = narrowed(found, path, value)
    return found


def _confident(label: str, text: str | None, min_confidence: float | None) -> float | None:
    """Return the least confidence of a photo's hits: that of the setting where none is asked for."""
    if min_confidence is None and text is None and Confidence(get_field(label)):
        return conf.MIN_CONFIDENCE  # type: ignore[no-any-return]
    return min_confidence or None


def _nothing(label: str = "", query_id: str = "") -> SearchResults:
    return SearchResults([], Ranking(label, "product", query_id, "", True))


def _log_results(results: SearchResults, started: float, request: HttpRequest | None) -> None:
    if request is not None:  # else no person looks
        surface = SearchLog.Surface.SIMILAR if results.ranking.query_kind == "product" else SearchLog.Surface.PAGE
        feedback.log_search(results, (time.perf_counter() - started) * 1000, request, surface)
