"""From results to a response, with the viewset's serializer, page sizes and facets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from .. import search
from ..feedback import log_search
from ..fields import EmbeddingField
from ..search import SearchResults
from .facets import facets
from .inputs import Asked, names_of
from .outputs import hits_as_data, notice
from .paging import CURSOR, depth_for, next_address, page_limits, read_cursor, token_of


def limits_of(view: Any) -> dict[str, Any]:
    """What LimitField reads in a serializer's context."""
    return {"limits": page_limits(view.paginator)}


def read(view: Any, serializer: type[Asked], data: Any) -> dict[str, Any]:
    """What is asked, checked; with a ``limit`` in any case. Raises ValidationError."""
    context = limits_of(view)
    asked = serializer(data=data, context=context)
    asked.is_valid(raise_exception=True)
    return {"limit": context["limits"][0], **asked.validated_data}


def own_parameters(request: Request, serializer: type[Asked]) -> dict[str, Any]:
    """Those of the address that the serializer has a field for; the others are filters."""
    names = names_of(serializer)  # type: ignore[arg-type]
    return {name: value for name, value in request.query_params.items() if name in names}


def how(asked: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a search."""
    return {
        "limit": asked["limit"],
        "depth": depth_for(asked["limit"]),
        "min_similarity": asked.get("min_similarity"),
        "min_confidence": asked.get("min_confidence"),
        "ranking": None if asked["ranking"] else False,
    }


def first_page(
    view: Any, results: SearchResults, field: EmbeddingField, within: QuerySet[Any], started: float, limit: int
) -> Response:
    """``started``: time.monotonic() when the search began, for the log of searches."""
    log_search(results, (time.monotonic() - started) * 1000, view.request._request)
    counted = facets(view.visual_search_facets, field, within, results.ranking)
    return _page(view, results, field, limit, counted)


def next_page(
    view: Any, field: EmbeddingField, within: QuerySet[Any], kinds: Iterable[str], query_id: str = ""
) -> Response:
    """The page that the request's cursor leads to. Raises Refused for one of another search."""
    own = own_parameters(view.request, Asked)
    if settled := sorted(own.keys() - {"limit"}):
        message = _("Leave this out: a cursor goes on with what its search was asked.")
        raise ValidationError({name: [message] for name in settled}, code="invalid")
    limit = read(view, Asked, own)["limit"]
    ranking = read_cursor(view.request.query_params[CURSOR], field, kinds, query_id)
    return _page(view, search.next_page(ranking, limit=limit, within=within), field, limit, None)


@contextmanager
def without_parameters(request: Request) -> Iterator[None]:
    """The request as if its address had no query."""
    django_request, query = request._request, request._request.GET
    django_request.GET = QueryDict()
    try:
        yield
    finally:
        django_request.GET = query


def _page(view: Any, results: SearchResults, field: EmbeddingField, limit: int, counted: Any) -> Response:
    products = view.get_serializer([hit.product for hit in results], many=True).data
    return Response(
        {
            "next": next_address(view.request, results, names_of(Asked), limit),
            "token": token_of(results),
            "exact": results.exact,
            "extractor": results.extractor_key,
            "notice": notice(results),
            "facets": counted,
            "results": hits_as_data(results.hits, products, field, view.request),
        }
    )
