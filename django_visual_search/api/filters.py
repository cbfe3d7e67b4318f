"""The products that a request leaves to search, by query parameters, the viewset's filters, and text beside a photo.

``check_parameters`` refuses an unknown query parameter: a filter with a typing error would narrow nothing.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.filters import SearchFilter, search_smart_split
from rest_framework.request import Request
from rest_framework.settings import api_settings

TRACKING = re.compile(
    "utm_.*|mtm_.*|pk_(campaign|kwd|keyword|source|medium|content|cid)|hsa_.*"  # Google Analytics, Matomo, HubSpot
    "|_ga|_gl|gclid|gclsrc|dclid|gbraid|wbraid|gad_.*|srsltid"  # Google
    "|fbclid|igshid|msclkid|ttclid|twclid|li_fat_id|epik|yclid|mc_[ce]id|_hs(enc|mi)"  # networks and newsletters
    "|ref|referrer"
)
"""Query parameters that advertisers, newsletters and analytics append to any link. They narrow nothing."""


def check_parameters(request: Request, view: Any, queryset: QuerySet[Any], own: Iterable[str]) -> None:
    """Raise ValidationError for query parameters that neither the action (``own``) nor a filter reads.

    The viewset's ``visual_search_parameters`` names undeclared parameters of the shop's own filters; None accepts any.
    """
    undeclared = getattr(view, "visual_search_parameters", ())
    if undeclared is None:
        return
    accepted = {*own, *undeclared, *_of_filters(view, queryset), *_of_rest_framework(view)}
    if unknown := sorted(name for name in set(request.query_params) - accepted if not TRACKING.fullmatch(name)):
        message = _("Unknown parameter. Accepted parameters: %(known)s.") % {"known": ", ".join(sorted(accepted))}
        raise ValidationError({name: [message] for name in unknown}, code="unknown")


def _of_rest_framework(view: Any) -> Iterator[str]:
    if api_settings.URL_FORMAT_OVERRIDE:
        yield api_settings.URL_FORMAT_OVERRIDE
    version = getattr(view.versioning_class, "version_param", None)
    if version:
        yield version


def _of_filters(view: Any, queryset: QuerySet[Any]) -> Iterator[str]:
    for backend in (make() for make in getattr(view, "filter_backends", ())):
        for attribute in ("search_param", "ordering_param"):
            if hasattr(backend, attribute):
                yield getattr(backend, attribute)
        if hasattr(backend, "get_filterset_class"):  # django-filter
            filterset = backend.get_filterset_class(view, queryset)
            for name, declared in filterset.base_filters.items() if filterset else ():
                widget = declared.extra.get("widget") or declared.field_class.widget
                suffixes = getattr(widget, "suffixes", None) or [""]
                yield from (f"{name}_{suffix}" if suffix else name for suffix in suffixes)
        elif hasattr(backend, "get_schema_operation_parameters"):
            yield from (declared["name"] for declared in backend.get_schema_operation_parameters(view))


def filters_read(view: Any, queryset: QuerySet[Any], name: str) -> bool:
    """Return whether a filter of the viewset reads that query parameter."""
    return name in {*(getattr(view, "visual_search_parameters", ()) or ()), *_of_filters(view, queryset)}


def without_query_string(request: Request) -> Request:
    """Return a copy of the request whose URL has no query string; user, data and session are the same objects."""
    bare: Any = copy.copy(request)
    django_request: Any = request._request
    # Not copy.copy, which leaves out what Django doesn't pickle: the environment and the resolved URL.
    bare._request = object.__new__(type(django_request))
    bare._request.__dict__.update(django_request.__dict__, GET=QueryDict())
    return bare  # type: ignore[no-any-return]


def filter_by_text(queryset: QuerySet[Any], text: str, request: Request, view: Any) -> QuerySet[Any]:
    """Return the products whose ``search_fields`` have every word of the text, as the viewset's search box would."""
    return _TextFilter(text).filter_queryset(request, queryset, view)


class _TextFilter(SearchFilter):
    """DRF's filter, with the text as an argument instead of a query parameter."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_search_terms(self, request: Request) -> list[str]:
        terms: list[str] = search_smart_split(self.text)
        return terms
