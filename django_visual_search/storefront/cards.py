"""How a product is shown where the shop says nothing else: title, address, picture.

Hits as templates show them: what to print for each, and the markup by which the script reports on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.db.models.fields.files import FieldFile
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..search import SearchHit, SearchResults


def title_of(product: Model) -> str:
    return str(product)


def address_of(product: Model) -> str:
    """What ``get_absolute_url`` says, or nothing where the model has none."""
    address = getattr(product, "get_absolute_url", None)
    return str(address() or "") if callable(address) else ""


def picture_of(field: EmbeddingField, row: Model | None) -> FieldFile | None:
    """The picture that the vector of this row was made from; None where it is gone."""
    value: Any = row
    for name in (field.source or "").split("__") if row is not None else ():
        value = getattr(value, name, None)
    return value or None


def thumbnail_of(picture: FieldFile | None, size: int = 240) -> str:
    """Address of a small version, by the shop's ``VISUAL_SEARCH["THUMBNAIL"]`` (picture, size) -> str.

    Without one it is the picture's own address; empty without a picture.
    """
    if not picture:
        return ""
    make = conf.THUMBNAIL
    if make is None:
        return str(picture.url)
    return str((import_string(make) if isinstance(make, str) else make)(picture, size) or "")


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
