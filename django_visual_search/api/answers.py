"""The response to a search: one page of hits, with a cursor for the next page and a token for feedback.

``first_page_response`` and ``next_page_response`` make it, with the viewset's own serializer, page sizes and facets.

A search settles one ranking, ``depth_for`` places deep. The signed cursor carries the places still to be shown, so page
2 continues page 1 even if products change in between. The signed token carries the places that the page shows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.core.signing import BadSignature, SignatureExpired
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from .. import search
from ..conf import conf
from ..feedback import log_search
from ..fields import EmbeddingField
from ..models import SearchLog
from ..search import FoundObject, ObjectResults, SearchHit, SearchResults
from ..search.results import Place, Ranking, read_token
from ..storefront.cards import load_pictures, picture_of, picture_url, thumbnail_of, title_of, url_of
from ..storefront.facets import count_facets
from ..storefront.handles import handle_of
from .bodies import Refused
from .inputs import SearchOptions, names_of

CURSOR = "cursor"
HANDLE = "handle"
LONGEST_URL = 4000
"""Most characters of a next page's path and query: gunicorn takes a request line of 4,094 bytes."""
DEFAULT_PAGE = 12
"""Hits on a page where the viewset's paginator doesn't say."""
NOT_CARRIED = Place("", "", 0.0)


# The pages


def first_page_response(
    view: Any,
    results: SearchResults,
    field: EmbeddingField,
    within: QuerySet[Any],
    started: float,
    limit: int,
    handle: str = "",
) -> Response:
    """Log the search and return its first page. ``started``: ``time.monotonic()`` when the search began.

    ``handle``: the photo's, if it has one already.
    """
    log_search(results, (time.monotonic() - started) * 1000, view.request._request, SearchLog.Surface.API)
    counts = count_facets(view.visual_search_facets, field, within, results.ranking)
    return _page_response(view, results, field, limit, counts, handle)


def next_page_response(
    view: Any, field: EmbeddingField, within: QuerySet[Any], kinds: Iterable[str], query_id: str = ""
) -> Response:
    """Return the page that the request's cursor leads to. Raise Refused for a cursor of another search."""
    parameters = own_parameters(view.request, names_of(SearchOptions))  # type: ignore[arg-type]
    if settled := sorted(parameters.keys() - {"limit"}):
        message = _("Leave this out: a cursor continues its search with the same options.")
        raise ValidationError({name: [message] for name in settled}, code="invalid")
    limit = validated(view, SearchOptions, parameters)["limit"]
    ranking = read_cursor(view.request.query_params[CURSOR], field, kinds, query_id)
    return _page_response(view, search.next_page(ranking, limit=limit, within=within), field, limit, None)


def objects_response(
    view: Any, found: Sequence[ObjectResults], field: EmbeddingField, within: QuerySet[Any], started: float, limit: int
) -> Response:
    """Log the search and return its first page, that of the whole photo, with a first page for each object in it.

    ``found``: of ``search.search_objects``. Facets are counted for the whole photo alone.
    """
    *parts, whole = found
    answer = first_page_response(view, whole.results, field, within, started, limit)
    answer.data["objects"] = [
        object_as_data(part.object) | _page_as_data(view, part.results, field, limit, None) for part in parts
    ]
    return answer


def object_as_data(found: FoundObject) -> dict[str, Any]:
    """Return an object as ObjectSerializer describes it."""
    return {"box": [round(edge, 4) for edge in found.box], "score": round(found.score, 4), "name": found.name}


def _page_response(
    view: Any, results: SearchResults, field: EmbeddingField, limit: int, counts: Any, handle: str = ""
) -> Response:
    return Response(_page_as_data(view, results, field, limit, counts, handle))


def _page_as_data(
    view: Any, results: SearchResults, field: EmbeddingField, limit: int, counts: Any, handle: str = ""
) -> dict[str, Any]:
    products = view.get_serializer([hit.product for hit in results], many=True).data
    return {
        "next": next_url(view.request, results.ranking, limit),
        "token": page_token(results),
        "handle": handle or handle_of(results, view.request) or None,
        "exact": results.exact,
        "extractor": results.extractor_key,
        "notice": notice(results),
        "facets": counts,
        "results": hits_as_data(results.hits, products, field, view.request),
    }


# The options of a search


def own_parameters(request: Request, names: Collection[str]) -> dict[str, Any]:
    """Return the query parameters that are options of the search; the others belong to filters."""
    return {name: value for name, value in request.query_params.items() if name in names}


def with_url_options(request: Request) -> Any:
    """Return the request's data with the options in its URL that the data does not have."""
    data, own = request.data, own_parameters(request, names_of(SearchOptions))  # type: ignore[arg-type]
    if not own or not isinstance(data, Mapping):
        return data
    if isinstance(data, MultiValueDict):  # its own copy() would copy the photo
        return MultiValueDict({**{name: [value] for name, value in own.items()}, **dict(data.lists())})
    return {**own, **data}


def validated(view: Any, serializer: type[SearchOptions], data: Any) -> dict[str, Any]:
    """Return the validated data, always with a ``limit``. Raise ValidationError."""
    context = limits_context(view)
    options = serializer(data=data, context=context)
    options.is_valid(raise_exception=True)
    return {"limit": context["limits"][0], **options.validated_data}


def search_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a search in ``search``."""
    return {
        "limit": options["limit"],
        "depth": depth_for(options["limit"]),
        "min_similarity": options.get("min_similarity"),
        "min_confidence": options.get("min_confidence"),
        "ranking": None if options["ranking"] else False,
    }


def depth_for(limit: int) -> int:
    """Return how many places a search settles, for all its pages."""
    return max(limit, min(conf.PAGE_DEPTH, conf.MAX_LIMIT))


def limits_context(view: Any) -> dict[str, Any]:
    """Return the serializer context that LimitField reads."""
    return {"limits": page_limits(view.paginator)}


def page_limits(paginator: Any) -> tuple[int, int]:
    """Return how many hits a page has by default and at most, by the viewset's paginator.

    Without a maximum it is ``VISUAL_SEARCH["PAGE_DEPTH"]``; where clients may not choose the page size at all
    (``page_size_query_param = None``), it is the page size.
    """
    default = getattr(paginator, "page_size", None) or getattr(paginator, "default_limit", None)
    most = getattr(paginator, "max_page_size", None) or getattr(paginator, "max_limit", None)
    if default and most is None and getattr(paginator, "page_size_query_param", "") is None:
        most = default
    most = min(most or conf.PAGE_DEPTH, conf.MAX_LIMIT)
    return min(default or DEFAULT_PAGE, most), most


# Cursor and token


def next_url(request: Request, ranking: Ranking, limit: int) -> str | None:
    """Return the URL of the next page, with the request's filters; None after the last page."""
    parameters = request.query_params.copy()
    settled = [CURSOR, HANDLE, *names_of(SearchOptions)]  # type: ignore[arg-type]
    if request.method == "GET" and CURSOR not in parameters and ranking.query_kind in ("text", "words"):
        settled.append("text")  # on other pages it belongs to a filter
    for name in settled:
        parameters.pop(name, None)
    parameters["limit"] = str(limit)
    # The tokens of earlier pages carry what has been shown; of these the next page needs the best similarity alone.
    shown = [NOT_CARRIED] * ranking.shown
    if shown:
        best = max(place.similarity for place in ranking.places[: ranking.shown])
        shown[0] = replace(NOT_CARRIED, similarity=best)
    ranking = replace(ranking, places=(*shown, *ranking.places[ranking.shown :]))
    base = request.build_absolute_uri(request._request.path)
    while ranking.more:
        parameters[CURSOR] = ranking.sign()
        url = f"{base}?{parameters.urlencode()}"
        length = len(url) - url.index("/", url.index("//") + 2)
        if length <= LONGEST_URL:
            return url
        # Long keys: the pages reach less far. Each place takes about the same, so this soon fits.
        left = len(ranking.places) - ranking.shown
        kept = min(left - 1, left * LONGEST_URL // length)
        ranking = replace(ranking, places=ranking.places[: ranking.shown + kept])
    return None


def read_cursor(cursor: str, field: EmbeddingField, kinds: Iterable[str], query_id: str = "") -> Ranking:
    """Return the ranking to continue. Raise Refused for a cursor that is forged, too old, or of another search."""
    try:
        ranking = read_token(cursor)
    except SignatureExpired:
        raise Refused(_("This search is too old to be continued. Start a new one."), "cursor_expired") from None
    except BadSignature:
        raise Refused(_("This cursor is not valid. Use the URL in 'next' unchanged."), "cursor_invalid") from None
    if ranking.label != field.label or ranking.query_kind not in kinds or ranking.query_id != query_id:
        raise Refused(_("This cursor continues another search."), "cursor_foreign")
    return ranking


def page_token(results: SearchResults) -> str:
    """Return a signed token for feedback, with the places that this page shows and no others."""
    ranking = results.ranking
    ranks = {hit.rank for hit in results}
    places = [place if i in ranks else NOT_CARRIED for i, place in enumerate(ranking.places[: ranking.shown], 1)]
    return replace(ranking, places=tuple(places)).sign()


# The response's parts, and their serializers, which describe them for OpenAPI


class PlainProductSerializer(serializers.Serializer):
    """A product where the shop has no serializer of its own."""

    id = serializers.CharField(source="pk")
    title = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField(help_text="The product's page; empty where it has none.")

    def get_title(self, product: Any) -> str:
        return title_of(product)

    def get_url(self, product: Any) -> str:
        return absolute(self.context.get("request"), url_of(product))


class PictureSerializer(serializers.Serializer):
    id = serializers.CharField(help_text="Primary key of the row that has the picture.")
    url = serializers.CharField(help_text="The picture as it was uploaded.")
    thumbnail = serializers.CharField(help_text="A small version of it.")


class FacetValueSerializer(serializers.Serializer):
    value = serializers.JSONField(allow_null=True)
    label = serializers.CharField(allow_null=True, help_text="Name of the value.")
    count = serializers.IntegerField(help_text="How many of the hits have it.")


class HitSerializer(serializers.Serializer):
    """One product that was found."""

    id = serializers.CharField(help_text="The product's primary key, as feedback names it.")
    rank = serializers.IntegerField(help_text="1 for the first; over all pages.")
    similarity = serializers.FloatField(help_text="Cosine, -1 to 1 (other metrics have other scales).")
    confidence = serializers.FloatField(
        allow_null=True,
        help_text="Probability that it is what the query shows, 0 to 1; null without a learned calibration.",
    )
    same_product = serializers.FloatField(
        allow_null=True,
        help_text="Probability that it is the very product that the photo shows, 0 to 1; null for other queries, and "
        "where that was not learned.",
    )
    reasons = serializers.ListField(
        child=serializers.CharField(),
        help_text='Why it is here: "visual", and what else moved it, such as "text" or "pinned".',
    )
    picture = PictureSerializer(allow_null=True, help_text="The picture that matched; null where it is gone.")


class NoticeSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="For programs: nothing_close_enough.")
    detail = serializers.CharField(help_text="For people.")


class PageSerializer(serializers.Serializer):
    """One page of hits, best first."""

    next = serializers.CharField(allow_null=True, help_text="URL of the next page (GET); null on the last page.")
    token = serializers.CharField(help_text="Signed record of what this page shows, for feedback.")
    handle = serializers.CharField(
        allow_null=True,
        help_text="Names the photo for further searches by GET, with other filters or words; null for other queries "
        "and on later pages.",
    )
    exact = serializers.BooleanField(help_text="Whether these are surely the nearest.")
    extractor = serializers.CharField(help_text="Key of the vector space; empty where the query had no vector.")
    notice = NoticeSerializer(allow_null=True, help_text="Why nothing was found, where there is more to say.")
    facets = serializers.DictField(
        child=FacetValueSerializer(many=True),
        allow_null=True,
        help_text="Number of hits on all pages by value; null on later pages.",
    )


class ObjectSerializer(serializers.Serializer):
    """A part of the photo that looks like a thing."""

    box = serializers.ListField(
        child=serializers.FloatField(min_value=0, max_value=1),
        min_length=4,
        max_length=4,
        help_text="x0, y0, x1, y1 in fractions of the upright photo, as `crop` takes them.",
    )
    score = serializers.FloatField(help_text="How well the box should fit a thing, 0 to 1; 0 for the whole photo.")
    name = serializers.CharField(help_text="What the shop's own detector calls it; empty without one.")


class ObjectsSerializer(serializers.Serializer):
    """The objects in a photo, best first; the last one is the whole photo."""

    objects = ObjectSerializer(many=True)


def hits_as_data(
    hits: list[SearchHit], products: list[Any], field: EmbeddingField, request: Request
) -> list[dict[str, Any]]:
    """Return the hits as HitSerializer describes them. ``products``: theirs, as the viewset's serializer shows them."""
    load_pictures(field, hits)
    return [
        {
            "id": str(hit.product.pk),
            "rank": hit.rank,
            "similarity": round(hit.similarity, 4),
            "confidence": None if hit.confidence is None else round(hit.confidence, 4),
            "same_product": None if hit.same_product is None else round(hit.same_product, 4),
            "reasons": list(hit.reasons),
            "picture": _picture_as_data(hit, field, request),
            "product": product,
        }
        for hit, product in zip(hits, products, strict=True)
    ]


def _picture_as_data(hit: SearchHit, field: EmbeddingField, request: Request) -> dict[str, str] | None:
    picture = picture_of(field, hit.row)
    if picture is None or hit.row is None:
        return None
    owner = getattr(hit.row, field.link.attname) if field.link else hit.row.pk
    return {
        "id": str(owner),
        "url": absolute(request, picture_url(picture)),
        "thumbnail": absolute(request, thumbnail_of(picture)),
    }


def notice(results: SearchResults) -> dict[str, str] | None:
    """Return the notice that NoticeSerializer describes, or None."""
    if not results.nothing_close:
        return None
    return {"code": "nothing_close_enough", "detail": _("Nothing here looks enough like the query.")}


def absolute(request: Request | None, url: str) -> str:
    return request.build_absolute_uri(url) if request is not None and url else url
