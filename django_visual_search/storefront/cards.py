"""Hits as templates show them: title, URL and thumbnail of each, and the markup for the script that reports clicks.

Entry functions: ``cards`` and ``feedback_attributes``. The API and the admin show a product by the same three
functions: ``title_of``, ``url_of``, ``thumbnail_of``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.models import Model, prefetch_related_objects
from django.db.models.fields.files import FieldFile
from django.urls import NoReverseMatch, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..search import SearchHit, SearchResults

logger = logging.getLogger("django_visual_search")


@dataclass(frozen=True)
class Card:
    """One hit as a template shows it; ``url`` and ``thumbnail`` are empty where the product has none."""

    hit: SearchHit
    key: str
    """The product's primary key as text, for ``data-visual-search-product``."""
    title: str
    url: str
    thumbnail: str
    """URL of a small version of the picture that matched."""

    @property
    def address(self) -> str:
        """Return ``url``; templates of shops may use this name."""
        return self.url


def cards(results: SearchResults, size: int = 240) -> list[Card]:
    """Return a card for each hit, best first, with thumbnails of ``size`` pixels a side."""
    if not results:
        return []
    field = get_field(results.label)
    load_pictures(field, results, size)
    return [
        Card(
            hit,
            str(hit.product.pk),
            title_of(hit.product),
            url_of(hit.product),
            # Made only where the template shows it, as a shop's own markup may not.
            SimpleLazyObject(partial(thumbnail_of, picture_of(field, hit.row), size)),
        )
        for hit in results
    ]


def title_of(product: Model) -> str:
    """Return the product as text; empty where that fails."""
    return _or_nothing("title", product, lambda: str(product))


def url_of(product: Model) -> str:
    """Return what ``get_absolute_url`` returns; empty where the model has no such method, or where it fails."""
    url = getattr(product, "get_absolute_url", None)
    return _or_nothing("URL", product, lambda: str(url() or "")) if callable(url) else ""


def picture_url(picture: FieldFile) -> str:
    """Return the picture's URL; empty where the storage fails to give one."""
    return _or_nothing("picture", picture, lambda: str(picture.url))


def _or_nothing(what: str, of: Any, read: Callable[[], str]) -> str:
    """Return what ``read`` returns; empty, with a line in the log, where it fails: the other hits are worth more."""
    try:
        return read()
    except Exception as e:
        name = f"{of._meta.label} {of.pk}" if isinstance(of, Model) else of.name
        logger.warning("visual search: no %s of %s: %s: %s", what, name, type(e).__name__, e)
        return ""


def picture_of(field: EmbeddingField, row: Model | None) -> FieldFile | None:
    """Return the picture that the row's vector was made from; None where it is gone."""
    return image_at(row, field.source or "")


def image_at(row: Model | None, path: str) -> FieldFile | None:
    """Return the file at the end of the path from a row; None where that leads nowhere."""
    value: Any = row
    for name in path.split("__") if row is not None else ():
        value = getattr(value, name, None)
    return value or None


def load_pictures(field: EmbeddingField, hits: Iterable[SearchHit], size: int = 240) -> None:
    """Read what ``picture_of`` needs of all these hits: a query for each relation on the way, none without.

    A THUMBNAIL function with an attribute ``prepare`` is told of all pictures at once, before it is asked for each.
    """
    shown = [(hit.row, hit.product) for hit in hits if hit.row is not None]
    rows = [row for row, _ in shown]
    link = field.link
    if link is not None and link.name in field.product_paths:
        for row, product in shown:
            is_its_own = isinstance(product, field.target_model) and (
                getattr(row, link.attname) == getattr(product, link.target_field.attname)
            )
            if is_its_own and not link.is_cached(row):
                setattr(row, link.name, product)
    way = (field.source or "").split("__")[:-1]
    if field.route:
        prefetch_related_objects(rows, "__".join(way))
    make = thumbnail_function()
    if prepare := getattr(make, "prepare", None):
        pictures = [picture for row in rows if (picture := picture_of(field, row)) is not None]
        _or_nothing("thumbnails", field, lambda: str(prepare(pictures, size) or ""))


def thumbnail_function() -> Callable[..., Any] | None:
    """Return what ``VISUAL_SEARCH["THUMBNAIL"]`` names, or None."""
    make = conf.THUMBNAIL
    return import_string(make) if isinstance(make, str) else make


def thumbnail_of(picture: FieldFile | None, size: int = 240) -> str:
    """Return the URL that ``VISUAL_SEARCH["THUMBNAIL"]`` gives for the picture, without that setting the picture's own.

    Empty without a picture, and where that fails. ``size``: pixels a side.
    """
    if not picture:
        return ""
    make = thumbnail_function()
    if make is None:
        return picture_url(picture)
    return _or_nothing("thumbnail", picture, lambda: str(make(picture, size) or ""))


def feedback_attributes(results: SearchResults | Iterable[SearchHit]) -> SafeString:
    """Return the attributes of the element around the hits, from which ``feedback.js`` reports.

    Empty without hits, and where the project doesn't include ``django_visual_search.urls``.
    """
    if not isinstance(results, SearchResults) or not results:
        return SafeString("")
    try:
        url = reverse("visual_search:feedback")
    except NoReverseMatch:
        return SafeString("")
    return format_html('data-visual-search-token="{}" data-visual-search-url="{}"', results.token, url)
