"""Hits as templates show them: picture, title, price and reason of each, and the markup that reports reactions.

Entry functions: ``cards``, ``reactions`` and ``feedback_attributes``. The API and the admin show a product by the same
three functions: ``title_of``, ``url_of``, ``thumbnail_of``. A part of a product that fails is empty on its card, with
one line in the log, so that the other hits are shown.
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeVar

from django.db.models import Model, prefetch_related_objects
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..search import SearchHit, SearchResults

logger = logging.getLogger("django_visual_search")

T = TypeVar("T")

CARD_SIDE = 240
"""Pixels of a card's picture on a usual screen; sharp screens get twice as many."""
SIZES = "auto, (max-width: 480px) 45vw, 240px"
"""Width of cards, for browsers without ``auto``."""
SIMILAR_ANCHOR = "visual-search-similar"
"""Id of the similar items on a product's page."""

SHOPPER_REASONS: dict[str, Any] = {
    "pinned": _("Chosen by us"),
    "boosted": _("Chosen by us"),
    "feedback": _("Popular"),
}
"""Our rankers' reasons in the shopper's words; the first that holds is shown."""


class Card:
    """One hit as a template shows it. Each part is made when the template asks for it."""

    def __init__(
        self,
        hit: SearchHit,
        field: EmbeddingField,
        size: int = CARD_SIDE,
        request: HttpRequest | None = None,
        query: Callable[[], Mapping[str, Any]] = dict,
        load: Callable[[], None] = lambda: None,
    ) -> None:
        self.hit = hit
        self._field, self._size, self._request = field, size, request
        # Of the whole list: what the card of its query says, and how to read the pictures of all its rows at once
        self._query, self._load = query, load

    @cached_property
    def key(self) -> str:
        """Return the product's primary key as text, for ``data-visual-search-product``."""
        return str(self.hit.product.pk)

    @cached_property
    def title(self) -> str:
        return title_of(self.hit.product)

    @cached_property
    def url(self) -> str:
        return url_of(self.hit.product)

    @property
    def address(self) -> str:
        """Return ``url``; templates of shops may use this name."""
        return self.url

    @property
    def more_url(self) -> str:
        """Return the URL of the items similar to this product, on its page; empty if it has no page."""
        return f"{self.url}#{SIMILAR_ANCHOR}" if self.url else ""

    @cached_property
    def thumbnail(self) -> str:
        """Return the URL of a small version of the picture that matched."""
        return thumbnail_of(self.picture, self._size)

    @cached_property
    def srcset(self) -> str:
        """Return the thumbnail in two sizes; empty without ``THUMBNAIL``, as there is only one picture then."""
        if conf.THUMBNAIL is None or not self.thumbnail:
            return ""
        sharp = thumbnail_of(self.picture, 2 * self._size)
        if sharp in ("", self.thumbnail):
            return ""
        return f"{self.thumbnail} {self._size}w, {sharp} {2 * self._size}w"

    @property
    def sizes(self) -> str:
        return SIZES if self.srcset else ""

    @cached_property
    def price(self) -> str:
        """Return the price as the visitor's language writes it; empty where the shop names none."""
        return _or_nothing("price", self.hit.product, lambda: price_text(self._says.get("price")), "")

    @cached_property
    def sold_out(self) -> bool:
        return bool(self._says.get("sold_out"))

    @cached_property
    def reason(self) -> str:
        """Return in words why the hit is shown; empty where it only looks alike."""
        for reason, words in SHOPPER_REASONS.items():
            if reason in self.hit.reasons:
                return str(words)
        return _or_nothing("reason", self.hit.product, self._what_is_the_same, "")

    @cached_property
    def picture(self) -> FieldFile | None:
        """Return the picture that matched. The first card that is asked reads what all cards of its list need."""

        def read() -> FieldFile | None:
            self._load()
            return picture_of(self._field, self.hit.row)

        return _or_nothing("picture", self.hit.product, read, None)

    @cached_property
    def _says(self) -> Mapping[str, Any]:
        return card_says(self.hit.product, self._request)

    def _what_is_the_same(self) -> str:
        asked, found = (says.get("same") or {} for says in (self._query(), self._says))
        empty = (None, "")
        words = (text for text, value in found.items() if value not in empty and asked.get(text) == value)
        return str(next(words, ""))


def cards(
    results: SearchResults, size: int = CARD_SIDE, *, request: HttpRequest | None = None, product: Model | None = None
) -> list[Card]:
    """Return a card for each hit, best first, with thumbnails of ``size`` pixels a side.

    ``request``: the visitor's, for ``CARD``. ``product``: the searched one, to name what hits have in common.
    """
    if not results:
        return []
    field = get_field(results.label)
    query = dict if product is None else functools.cache(functools.partial(card_says, product, request))
    pictures = functools.cache(functools.partial(load_pictures, field, results.hits, size, 2 * size))
    return [Card(hit, field, size, request, query, pictures) for hit in results]


# The texts of a card

CARD_KEYS = ("price", "sold_out", "same")


def card_says(product: Model, request: HttpRequest | None) -> Mapping[str, Any]:
    """Return the result of ``VISUAL_SEARCH["CARD"]`` for the product; without that setting, of ``usual_card``."""

    def say() -> dict[str, Any]:
        says = dict(_function(conf.CARD or usual_card)(product, request))
        if unknown := says.keys() - CARD_KEYS:
            raise ValueError(f"CARD returned {', '.join(map(repr, unknown))}; its keys are {', '.join(CARD_KEYS)}.")
        return says

    return _or_nothing("card", product, say, {})


def usual_card(product: Model, request: HttpRequest | None = None) -> dict[str, Any]:
    """Return the product's own ``price``, and whether it is sold out.

    Only unmistakable values count: a decimal number or money (a whole number may be cents), and truth values.
    """
    price = getattr(product, "price", None)
    says: dict[str, Any] = {}
    if isinstance(price, Decimal) or hasattr(price, "currency"):
        says["price"] = price
    for name, sold_out in (("is_sold_out", True), ("sold_out", True), ("is_in_stock", False), ("in_stock", False)):
        value = getattr(product, name, None)
        value = value() if callable(value) else value
        if isinstance(value, bool):
            return says | {"sold_out": value is sold_out}
    return says


def price_text(price: Any) -> str:
    """Return the price as text; numbers are written as the language of the page does."""
    if price is None:
        return ""
    return number_format(price) if isinstance(price, Decimal | int | float) else str(price)


# Parts of a product


def title_of(product: Model) -> str:
    """Return the product as text; empty where that fails."""
    return _or_nothing("title", product, lambda: str(product), "")


def url_of(product: Model) -> str:
    """Return the product's ``get_absolute_url()``; empty if the model has no such method, or if it fails."""
    url = getattr(product, "get_absolute_url", None)
    return _or_nothing("URL", product, lambda: str(url() or ""), "") if callable(url) else ""


def picture_url(picture: FieldFile) -> str:
    """Return the picture's URL; empty where the storage fails to give one."""
    return _or_nothing("picture", picture, lambda: str(picture.url), "")


def picture_of(field: EmbeddingField, row: Model | None) -> FieldFile | None:
    """Return the picture that the row's vector was made from; None where it is gone."""
    return image_at(row, field.source or "")


def image_at(row: Model | None, path: str) -> FieldFile | None:
    """Return the file at the end of the path from a row; None where that leads nowhere."""
    value: Any = row
    for name in path.split("__") if row is not None else ():
        value = getattr(value, name, None)
    return value or None


def load_pictures(field: EmbeddingField, hits: Iterable[SearchHit], *sizes: int) -> None:
    """Read what ``picture_of`` needs of all these hits: a query for each relation on the way, none without.

    A THUMBNAIL function's attribute ``prepare`` is called with all pictures and ``sizes`` (by default ``CARD_SIDE``)
    first.
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
    _or_nothing("thumbnails", field, lambda: _prepare_thumbnails(field, rows, sizes or (CARD_SIDE,)), None)


def _prepare_thumbnails(field: EmbeddingField, rows: list[Model], sizes: tuple[int, ...]) -> None:
    if prepare := getattr(_function(conf.THUMBNAIL), "prepare", None):
        prepare([picture for row in rows if (picture := picture_of(field, row)) is not None], *sizes)


def thumbnail_of(picture: FieldFile | None, size: int = CARD_SIDE) -> str:
    """Return the URL that ``VISUAL_SEARCH["THUMBNAIL"]`` gives for the picture, without that setting the picture's own.

    Empty without a picture, and where that fails. ``size``: pixels a side.
    """
    if not picture:
        return ""
    if conf.THUMBNAIL is None:
        return picture_url(picture)
    return _or_nothing("thumbnail", picture, lambda: str(_function(conf.THUMBNAIL)(picture, size) or ""), "")


def _function(named: Any) -> Callable[..., Any]:
    """Return a function of the settings, which may be named by its dotted path."""
    found: Callable[..., Any] = import_string(named) if isinstance(named, str) else named
    return found


def _or_nothing(what: str, of: Any, read: Callable[[], T], nothing: T) -> T:
    """Return the result of ``read``, or ``nothing`` if it fails."""
    try:
        return read()
    except Exception as e:
        name = f"{of._meta.label} {of.pk}" if isinstance(of, Model) else of.name
        _warn_once(what, name, f"{type(e).__name__}: {e}")
        return nothing


@functools.lru_cache(maxsize=1024)
def _warn_once(what: str, name: str, fault: str) -> None:
    """Log once in a process: a fault that recurs on every page would bury all others."""
    logger.warning("visual search: no %s of %s: %s", what, name, fault)


# Reporting reactions


def feedback_attributes(results: SearchResults | Iterable[SearchHit]) -> SafeString:
    """Return the attributes of the element around the hits, from which ``feedback.js`` reports.

    Empty without hits, and where the project doesn't include ``django_visual_search.urls``.
    """
    if not isinstance(results, SearchResults) or not results or not (url := _url("feedback")):
        return SafeString("")
    return format_html('data-visual-search-token="{}" data-visual-search-url="{}"', results.token, url)


@dataclass(frozen=True)
class Reactions:
    """The form that sends a shopper's reaction to a hit where no script reports it."""

    id: str
    """For the attribute ``form`` of its buttons, which are on the cards; another one for each list."""
    url: str
    token: str

    @property
    def form(self) -> SafeString:
        """Return the form, for a place before the list. It needs no CSRF token, so pages with it stay cacheable."""
        return format_html(
            '<form id="{}" method="post" action="{}" data-visual-search-reactions>'
            '<input type="hidden" name="token" value="{}"></form>',
            *(self.id, self.url, self.token),
        )


def reactions(results: SearchResults | Iterable[SearchHit]) -> Reactions | None:
    """Return the form for reactions to these hits; None where ``feedback_attributes`` is empty."""
    if not isinstance(results, SearchResults) or not results or not (url := _url("reactions")):
        return None
    return Reactions(f"visual-search-{uuid.uuid4().hex[:12]}", url, results.token)


def _url(name: str) -> str:
    try:
        return reverse(f"visual_search:{name}")
    except NoReverseMatch:
        return ""
