"""Pages of one ranking: the cursor is signed, and carries the places that are still to be shown.

So page 2 continues what page 1 began, whatever is added, changed and hidden in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.core.signing import BadSignature, SignatureExpired
from django.utils.translation import gettext as _
from rest_framework.request import Request

from ..conf import conf
from ..fields import EmbeddingField
from ..search import SearchResults
from ..search.results import Place, Ranking, read_token
from .errors import Refused

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
