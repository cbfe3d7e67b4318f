"""Pages of one ranking: the cursor is signed, and carries the places that are still to be shown.

So page 2 continues what page 1 began, whatever is added, changed and hidden in between.

What a search answers: the page of hits, each with the product as the viewset's own serializer shows it.

From results to a response, with the viewset's serializer, page sizes and facets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.core.signing import BadSignature, SignatureExpired
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from .. import search
from ..conf import conf
from ..feedback import log_search
from ..fields import EmbeddingField
from ..search import SearchHit, SearchResults
from ..search.results import Place, Ranking, read_token
from ..storefront.cards import address_of, picture_of, thumbnail_of, title_of
from .bodies import Refused
from .facets import facets
from .inputs import Asked, names_of

CURSOR = "cursor"
LONGEST = 4000
"""Longest path and query of a next page's address: gunicorn takes a request line of 4,094 bytes."""
NOT_CARRIED = Place("", "", 0.0)


def page_limits(paginator: Any) -> tuple[int, int]:
    """How many hits a page has by default and at most, as the viewset's paginator says.

    Without a maximum it is ``VISUAL_SEARCH["PAGE_DEPTH"]``; where clients may not choose the page size at all
    (``page_size_query_param = None``), it is the page size.
    """
    default = getattr(paginator, "page_size", None) or getattr(paginator, "default_limit", None)
    most = getattr(paginator, "max_page_size", None) or getattr(paginator, "max_limit", None)
    if default and most is None and getattr(paginator, "page_size_query_param", "") is None:
        most = default
    most = min(most or conf.PAGE_DEPTH, conf.MAX_LIMIT)
    return min(default or 12, most), most


def depth_for(limit: int) -> int:
    """How many places a search settles, for its pages."""
    return max(limit, min(conf.PAGE_DEPTH, conf.MAX_LIMIT))


def read_cursor(cursor: str, field: EmbeddingField, kinds: Iterable[str], query_id: str = "") -> Ranking:
    """The ranking to go on with. Raises Refused for a cursor that is not ours, too old, or of another search."""
    try:
        ranking = read_token(cursor)
    except SignatureExpired:
        raise Refused(_("This search is too old to be continued. Start it again."), "cursor_expired") from None
    except BadSignature:
        raise Refused(
            _("This cursor is not valid. Use the address in 'next' as it was given."), "cursor_invalid"
        ) from None
    if ranking.label != field.label or ranking.query_kind not in kinds or ranking.query_id != query_id:
        raise Refused(_("This cursor continues another search."), "cursor_foreign")
    return ranking


def next_address(request: Request, results: SearchResults, drop: Iterable[str], limit: int | None) -> str | None:
    """Where the next page is; None after the last one. ``drop``: parameters that the cursor carries."""
    parameters = request.query_params.copy()
    for name in (CURSOR, "limit", *drop):
        parameters.pop(name, None)
    if limit is not None:
        parameters["limit"] = str(limit)
    ranking = results.ranking
    # What has been shown is in the tokens of its pages.
    ranking = replace(ranking, places=(NOT_CARRIED,) * ranking.shown + ranking.places[ranking.shown :])
    path = request._request.path
    while ranking.more:
        parameters[CURSOR] = ranking.sign()
        address = f"{request.build_absolute_uri(path)}?{parameters.urlencode()}"
        length = len(address) - address.index("/", address.index("//") + 2)
        if length <= LONGEST:
            return address
        # Long keys: the pages reach less far. Each place takes about the same, so this soon fits.
        left = len(ranking.places) - ranking.shown
        ranking = replace(ranking, places=ranking.places[: ranking.shown + min(left - 1, left * LONGEST // length)])
    return None


def token_of(results: SearchResults) -> str:
    """For feedback: signed, with what this page shows and nothing else."""
    ranking = results.ranking
    shown = {hit.rank for hit in results}
    places = [place if i in shown else NOT_CARRIED for i, place in enumerate(ranking.places[: ranking.shown], 1)]
    return replace(ranking, places=tuple(places)).sign()


class PlainProductSerializer(serializers.Serializer):
    """A product where the shop has no serializer of its own."""

    id = serializers.CharField(source="pk")
    title = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField(help_text="The product's page; empty where it has none.")

    def get_title(self, product: Any) -> str:
        return title_of(product)

    def get_url(self, product: Any) -> str:
        return absolute(self.context.get("request"), address_of(product))


class PictureSerializer(serializers.Serializer):
    id = serializers.CharField(help_text="Primary key of the row that has the picture.")
    url = serializers.CharField(help_text="The picture as it was uploaded.")
    thumbnail = serializers.CharField(help_text="A small version of it.")


class FacetValueSerializer(serializers.Serializer):
    value = serializers.JSONField(allow_null=True)
    label = serializers.CharField(allow_null=True, help_text="What the value is called.")
    count = serializers.IntegerField(help_text="How many of the hits have it.")


class HitSerializer(serializers.Serializer):
    """One product that was found."""

    id = serializers.CharField(help_text="The product's primary key, as feedback names it.")
    rank = serializers.IntegerField(help_text="1 for the first; over all pages.")
    similarity = serializers.FloatField(help_text="Cosine, -1 to 1 (other metrics have other scales).")
    confidence = serializers.FloatField(
        allow_null=True, help_text="How likely it is what was asked for, 0 to 1; null where that was not learned."
    )
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text='Why it is here: "visual", and what else moved it, such as "pinned".'
    )
    picture = PictureSerializer(allow_null=True, help_text="The picture that matched; null where it is gone.")


class NoticeSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="For programs: nothing_close_enough.")
    detail = serializers.CharField(help_text="For people.")


class PageSerializer(serializers.Serializer):
    """One page of hits, best first."""

    next = serializers.CharField(allow_null=True, help_text="Address of the next page (GET); null on the last one.")
    token = serializers.CharField(help_text="Signed record of what this page shows, for feedback.")
    exact = serializers.BooleanField(help_text="Whether these are surely the nearest.")
    extractor = serializers.CharField(help_text="What made the vectors; empty where there was none to search by.")
    notice = NoticeSerializer(allow_null=True, help_text="Why nothing was found, where there is more to say.")
    facets = serializers.DictField(
        child=FacetValueSerializer(many=True),
        allow_null=True,
        help_text="How many of all the hits have which values; null on later pages.",
    )


class CountedSerializer(serializers.Serializer):
    counted = serializers.IntegerField(help_text="How many of the events count; those said before don't.")


def hits_as_data(
    hits: list[SearchHit], products: list[Any], field: EmbeddingField, request: Request
) -> list[dict[str, Any]]:
    """The hits with ``products``, what a serializer made of theirs, as HitSerializer says."""
    return [
        {
            "id": str(hit.product.pk),
            "rank": hit.rank,
            "similarity": round(hit.similarity, 4),
            "confidence": None if hit.confidence is None else round(hit.confidence, 4),
            "reasons": list(hit.reasons),
            "picture": _picture(hit, field, request),
            "product": product,
        }
        for hit, product in zip(hits, products, strict=True)
    ]


def notice(results: SearchResults) -> dict[str, str] | None:
    """As NoticeSerializer says; None where there is nothing to say."""
    if not results.nothing_close:
        return None
    return {"code": "nothing_close_enough", "detail": _("Nothing here looks enough like what was asked for.")}


def absolute(request: Request | None, address: str) -> str:
    return request.build_absolute_uri(address) if request is not None and address else address


def _picture(hit: SearchHit, field: EmbeddingField, request: Request) -> dict[str, str] | None:
    picture = picture_of(field, hit.row)
    if picture is None or hit.row is None:
        return None
    owner = getattr(hit.row, field.link.attname) if field.link else hit.row.pk
    return {
        "id": str(owner),
        "url": absolute(request, picture.url),
        "thumbnail": absolute(request, thumbnail_of(picture)),
    }


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
