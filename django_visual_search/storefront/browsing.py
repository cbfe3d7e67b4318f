"""A photo's hits as its page offers them: by facets, in an order, beside words, and more of them, each at a URL.

Entry functions: ``read_options`` reads the URL, ``photo_arguments`` gives the search that it needs, and ``PhotoPage``
has the parts that the template shows. ``VISUAL_SEARCH["STOREFRONT"]`` lists a shop's facets and orders.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db.models import F, Model, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from .. import search
from ..conf import conf
from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..search import SearchResults
from ..search.words import LONGEST_TEXT, understands_text
from .cards import Card, cards
from .facets import count_facets, facet_label, facet_name
from .searching import allowed_products

logger = logging.getLogger("django_visual_search")

PAGE_HITS = 24
FACET = "facet_"
"""Prefix of a facet's path in a URL."""
FACET_VALUES = 12
"""Most values of a facet that a page shows."""


@dataclass(frozen=True)
class PageOptions:
    """A visitor's choices among a photo's hits, as in the URL."""

    handle: str = ""
    text: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)
    """Wanted values, as text, by the path of the field."""
    order: str = ""
    """A key of ``orders_of``; empty for likeness."""
    pages: int = 1
    """Number of pages of hits to show, from the first."""
    anything: bool = False
    """Whether hits may be unlike the photo."""

    def url(self, action: str) -> str:
        """Return the URL of the page that fulfils them."""
        every = {
            "handle": self.handle,
            "text": self.text,
            **{f"{FACET}{path}": value for path, value in self.facets.items()},
            "sort": self.order,
            "pages": str(self.pages) if self.pages > 1 else "",
            "any": "1" if self.anything else "",
        }
        said = {name: value for name, value in every.items() if value or name.startswith(FACET)}
        return f"{action}?{urlencode(said)}" if said else action

    def with_facet(self, path: str, value: str | None) -> PageOptions:
        """Return these options with another value of a facet; None for any."""
        others = {name: wanted for name, wanted in self.facets.items() if name != path}
        return replace(self, facets=others if value is None else {**others, path: value}, pages=1)


@dataclass(frozen=True)
class Choice:
    """A facet's value, or an order, and where it leads."""

    name: str
    url: str
    value: str = ""
    count: int | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Facet:
    name: str
    choices: list[Choice]


def storefront_of(model: type[Model]) -> Mapping[str, Any]:
    """Return the entry of ``STOREFRONT`` for the model or its nearest parent; empty without one."""
    entries = {label.lower(): entry for label, entry in conf.STOREFRONT.items()}
    labels = (ancestor._meta.label_lower for ancestor in model.__mro__ if hasattr(ancestor, "_meta"))
    return next((entries[label] for label in labels if label in entries), {})


def orders_of(model: type[Model]) -> dict[str, tuple[str, str]]:
    """Return the orders beside likeness that the shop offers: name for people, and the field, by key."""
    offer = storefront_of(model)
    orders: dict[str, tuple[str, str]] = {}
    if price := offer.get("PRICE"):
        orders |= {"price": (_("Price, low to high"), price), "-price": (_("Price, high to low"), price)}
    if newest := offer.get("NEWEST"):
        orders["-newest"] = _("Newest"), newest
    return orders


def read_options(said: QueryDict, model: type[Model]) -> PageOptions:
    """Return the options in a URL, without invalid ones and those that the shop doesn't offer."""
    said = said.copy()
    for name, value in said.items():
        if "\0" in value:  # PostgreSQL takes none in text
            said[name] = ""
    paths = storefront_of(model).get("FACETS", ())
    pages, most = said.get("pages", ""), conf.PAGE_DEPTH // PAGE_HITS + 1
    return PageOptions(
        handle=said.get("handle", ""),
        text=said.get("text", "").strip()[:LONGEST_TEXT],
        facets={path: said[FACET + path] for path in paths if FACET + path in said},
        order=said["sort"] if said.get("sort") in orders_of(model) else "",
        pages=min(int(pages), most) if pages.isdecimal() and len(pages) < 4 and int(pages) else 1,
        anything=said.get("any") == "1",
    )


def photo_arguments(options: PageOptions) -> dict[str, Any]:
    """Return the arguments of ``search_by_photo`` and ``search_by_handle`` that these options need."""
    depth = max(PAGE_HITS * options.pages, min(conf.PAGE_DEPTH, conf.MAX_LIMIT))
    return {
        "limit": depth if options.order else PAGE_HITS * options.pages,
        "depth": depth,
        "text": options.text or None,
        "facets": options.facets,
        "min_confidence": 0 if options.anything else None,
    }


class PhotoPage:
    """The page of a photo's search. The template asks for the parts that it shows."""

    def __init__(
        self,
        results: SearchResults,
        options: PageOptions,
        field: EmbeddingField,
        action: str,
        request: HttpRequest | None,
        within: Any,
    ) -> None:
        self.field, self.options, self.action, self.request = field, options, action, request
        self.within = allowed_products(field.label, request, within, options.facets)
        self.model: type[Model] = field.product_model
        self.ranking = results.ranking
        """The whole order, of which the hits are a part."""
        self.results = in_order(results, self.within, self.model, options)
        self.queries = results.queries

    @property
    def url(self) -> str:
        """Return the URL of this page; empty without a handle."""
        return self.options.url(self.action) if self.options.handle else ""

    @property
    def count(self) -> int:
        """Return how many products were found, on further pages too."""
        return len(self.ranking.places)

    @cached_property
    def cards(self) -> list[Card]:
        return cards(self.results, request=self.request)

    @property
    def same(self) -> list[Card]:
        """Return the cards of the very product in the photo. In another order than by likeness none stands out."""
        return [] if self.options.order else [card for card in self.cards if card.hit.is_same_product]

    @property
    def similar(self) -> list[Card]:
        return [card for card in self.cards if self.options.order or not card.hit.is_same_product]

    @property
    def more_url(self) -> str:
        """Return the URL of this page with more hits; empty where there are none."""
        if not self.options.handle or len(self.results) >= self.count:
            return ""
        return replace(self.options, pages=self.options.pages + 1).url(self.action)

    @cached_property
    def takes_text(self) -> bool:
        return bool(self.options.handle) and understands_text(self.field)

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """Return the parameters of the form for text and order that it doesn't ask for."""
        every = [("handle", self.options.handle), *((FACET + path, v) for path, v in self.options.facets.items())]
        return [*every, ("any", "1")] if self.options.anything else every

    @cached_property
    def orders(self) -> list[Choice]:
        """Return the orders to choose from; none where there is only one."""
        orders = {"": (_("Most similar"), ""), **orders_of(self.model)}
        if len(orders) == 1 or not self.options.handle:
            return []
        return [
            Choice(name, replace(self.options, order=key).url(self.action), key, chosen=key == self.options.order)
            for key, (name, _path) in orders.items()
        ]

    @cached_property
    def _counts(self) -> dict[str, list[dict[str, Any]]]:
        paths = storefront_of(self.model).get("FACETS", ()) if self.options.handle else ()
        known = [path for path in paths if self._name(path)]
        return count_facets(known, self.field, self.within, self.ranking)

    def _name(self, path: str) -> str:
        try:
            return capfirst(facet_name(self.model, path))
        except FieldDoesNotExist as e:  # a check says so too
            logger.error("visual search: VISUAL_SEARCH['STOREFRONT'] has the facet %r: %s", path, e)
            return ""

    @cached_property
    def facets(self) -> list[Facet]:
        """Return the values to narrow the hits by; facets with one value, or whose value is chosen, are left out."""
        found = []
        for path, counts in self._counts.items():
            if path in self.options.facets or len(counts) < 2:
                continue
            choices = [
                Choice(
                    pgettext("a facet's value", "None") if one["value"] is None else one["label"],
                    self.options.with_facet(path, _value_text(one["value"])).url(self.action),
                    f"{path}={_value_text(one['value'])}",
                    one["count"],
                )
                for one in counts[:FACET_VALUES]
            ]
            found.append(Facet(self._name(path), choices))
        return found

    @cached_property
    def chips(self) -> list[Choice]:
        """Return the choices, each with the URL without it."""
        chips = []
        if self.options.text:
            without = replace(self.options, text="", pages=1)
            chips.append(Choice(f"“{self.options.text}”", without.url(self.action), "text", chosen=True))
        for path, value in self.options.facets.items():
            labels = {_value_text(one["value"]): one["label"] for one in self._counts.get(path, ())}
            name = (
                (labels.get(value) or facet_label(self.model, path, value))
                if value
                else pgettext("a facet's value", "None")
            )
            url = self.options.with_facet(path, None).url(self.action)
            chips.append(Choice(f"{self._name(path)}: {name}", url, path, chosen=True))
        return chips

    @cached_property
    def nearest(self) -> list[Choice]:
        """Return links for a search without a close hit: values of the first facet among the nearest products."""
        paths = [path for path in storefront_of(self.model).get("FACETS", ()) if self._name(path)][:1]
        if not (paths and self.results.nothing_close and self.options.handle):
            return []
        near = search.search_by_queries(self.queries, self.field.label, limit=1, within=self.within, depth=PAGE_HITS)
        [(path, counts)] = count_facets(paths, self.field, self.within, near.ranking).items()
        options = replace(self.options, anything=True)
        return [
            Choice(
                one["label"], options.with_facet(path, _value_text(one["value"])).url(self.action), count=one["count"]
            )
            for one in counts
            if one["label"]
        ]

    @property
    def anything_url(self) -> str:
        """Return the URL of the nearest products, however unlike; empty if this page shows them already."""
        if not self.options.handle or self.options.anything:
            return ""
        return replace(self.options, anything=True, pages=1).url(self.action)

    @property
    def less_similar_url(self) -> str:
        """Return the URL of this page with the hits that are not close enough; empty where there are none."""
        if not (self.results and self.results.left_out and self.options.handle) or self.options.anything:
            return ""
        return replace(self.options, anything=True).url(self.action)


def in_order(results: SearchResults, within: QuerySet[Any], model: type[Model], options: PageOptions) -> SearchResults:
    """Return the hits that the page shows, in the order that it wants, with a ranking of these alone.

    An order by price or date is one of the close hits; where nothing tells which are close (no confidence, words beside
    the photo, or unlike ones wanted), of as many of the most similar as the page shows: otherwise the cheapest of a
    hundred would come first, whatever it is. Products without a price or date come last; where the field named for the
    order fails, likeness stays.
    """
    orders, hits = orders_of(model), list(results.hits)
    if options.anything or any(hit.confidence is None for hit in hits):
        hits = hits[: PAGE_HITS * options.pages]
    if options.order:
        path = F(orders[options.order][1])
        ascending = not options.order.startswith("-")
        by = path.asc(nulls_last=True) if ascending else path.desc(nulls_last=True)
        try:
            rows = all_rows(model, within.db).filter(pk__in=[hit.product.pk for hit in hits])
            places = {pk: place for place, pk in enumerate(rows.order_by(by).values_list("pk", flat=True))}
            hits.sort(key=lambda hit: places.get(hit.product.pk, len(places)))
        except FieldError as e:
            logger.error("visual search: VISUAL_SEARCH['STOREFRONT']: no order by %s: %s", options.order, e)
    hits = [replace(hit, rank=rank) for rank, hit in enumerate(hits[: PAGE_HITS * options.pages], 1)]
    by_key = {place.product_pk: place for place in results.ranking.places}
    shown = tuple(by_key[str(hit.product.pk)] for hit in hits)
    ranking = replace(results.ranking, places=shown, shown=len(shown))
    return SearchResults(hits, ranking, results.vector, results.left_out)


def _value_text(value: Any) -> str:
    return "" if value is None else str(value)
