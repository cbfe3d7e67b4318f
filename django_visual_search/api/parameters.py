"""Which query parameters an action takes: its own and those of the viewset's filters. Others are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings


def check_parameters(request: Request, view: Any, queryset: QuerySet[Any], own: Iterable[str]) -> None:
    """Raises ValidationError for parameters that nobody reads: a filter with a typing error would narrow nothing.

    The viewset's ``visual_search_parameters`` names those that filters of the shop's own read without declaring them;
    None lets everything pass.
    """
    further = getattr(view, "visual_search_parameters", ())
    if further is None:
        return
    known = {*own, *further, *_of_filters(view, queryset), *_of_rest_framework(view)}
    if unknown := sorted(set(request.query_params) - known):
        message = _("There is no such parameter. There are: %(known)s.") % {"known": ", ".join(sorted(known))}
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
