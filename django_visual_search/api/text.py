"""Text beside a photo narrows what is searched, as a search box over the viewset's ``search_fields`` would."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.filters import SearchFilter, search_smart_split
from rest_framework.request import Request


class TextFilter(SearchFilter):
    """DRF's own, with the text given instead of read from the address."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_search_terms(self, request: Request) -> list[str]:
        terms: list[str] = search_smart_split(self.text)
        return terms


def narrowed(queryset: QuerySet[Any], text: str, request: Request, view: Any) -> QuerySet[Any]:
    """Of the products those whose ``search_fields`` have every word of the text."""
    return TextFilter(text).filter_queryset(request, queryset, view)
