"""Hits as templates show them: what to print for each, and the markup by which the script reports on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..fields.registry import get_field
from ..search import SearchHit, SearchResults
from .presentation import address_of, picture_of, thumbnail_of, title_of


@dataclass(frozen=True)
class Card:
    """One hit in the shop's own words; ``address`` and ``thumbnail`` are empty where the product has none."""

    hit: SearchHit
    key: str
    """The product's primary key as text, for ``data-visual-search-product``."""
    title: str
    address: str
    thumbnail: str
    """Address of a small version of the picture that matched."""


def cards(results: SearchResults, size: int = 240) -> list[Card]:
    """A card for each hit, in their order; ``size``: side in pixels of the thumbnails."""
    if not results:
        return []
    field = get_field(results.label)
    return [
        Card(
            hit,
            str(hit.product.pk),
            title_of(hit.product),
            address_of(hit.product),
            thumbnail_of(picture_of(field, hit.row), size),
        )
        for hit in results
    ]


def feedback_address() -> str:
    """Where browsers report to; empty where the project doesn't include ``django_visual_search.urls``."""
    try:
        return reverse("visual_search:feedback")
    except NoReverseMatch:
        return ""


def feedback_attributes(results: SearchResults | Iterable[SearchHit]) -> SafeString:
    """Attributes of the element around the hits, from which ``feedback.js`` reports; empty without hits or address."""
    address = feedback_address()
    if not isinstance(results, SearchResults) or not results or not address:
        return SafeString("")
    return format_html('data-visual-search-token="{}" data-visual-search-url="{}"', results.token, address)
