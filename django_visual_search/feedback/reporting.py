"""What a shopper's browser may say: only what it did with products that a signed token shows it was offered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from .errors import BadEvent
from .events import event, store_of_visitor
from .offers import Showing, read_offer
from .sessions import network_of, session_of
from .weights import BROWSER_KINDS, LOOKED_AT, Kind

MOST_EVENTS = 200
"""Events in one report: an impression and a click of each hit on all pages of a search."""


@dataclass(frozen=True)
class Report:
    """What became of the events."""

    counted: int
    duplicates: int
    """Said before, by the same visitor in the same period."""
    over_limit: int = 0
    """Beyond what one visitor or network may say in a period."""


def report(request: Any, token: str, events: Iterable[tuple[str, str]]) -> Report:
    """Take in what a browser says: pairs of kind and the product's primary key as text.

    ``token`` is SearchResults.token; query, rank, similarity and extractor are taken from it. Kinds are impression,
    click, favourite, cart and skip; each but the impression brings its impression along. All events are taken, or none:
    raises BadToken, NotOffered or BadEvent, which are ValueErrors.
    """
    offer, shown_at = read_offer(token)
    said = [_checked(pair) for pair in _list(events)]
    # The period is that of the search, so that a token sent again in the next one counts no second time.
    session, network = session_of(request, shown_at), network_of(request, shown_at)
    at = timezone.now()

    def made(kind: str, object_id: str, showing: Showing) -> Any:
        return event(kind, offer.model, object_id, showing, at=at, session=session, network=network)

    rows, brought = [], []
    for kind, object_id in said:
        showing = offer.showing_of(object_id)
        rows.append(made(kind, object_id, showing))
        if kind in LOOKED_AT:
            brought.append(made(Kind.IMPRESSION, object_id, showing))
    wanted = [row.digest for row in rows]
    new, over = store_of_visitor([*brought, *rows], session, network)
    counted, dropped = len(new.intersection(wanted)), len(over.intersection(wanted))
    return Report(counted, len(wanted) - counted - dropped, dropped)


def _list(events: Any) -> list[Any]:
    if not isinstance(events, Iterable) or isinstance(events, str | bytes | dict):
        raise BadEvent("'events' must be a list of events, each with a kind and a product.")
    listed = list(events)
    if len(listed) > MOST_EVENTS:
        raise BadEvent(f"At most {MOST_EVENTS} events can be reported at once, not {len(listed)}.")
    return listed


def _checked(pair: Any) -> tuple[str, str]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise BadEvent("An event is a kind and the primary key of a product.")
    kind, product = pair
    if isinstance(product, int) and not isinstance(product, bool):
        product = str(product)
    if not isinstance(product, str):
        raise BadEvent("The product of an event is its primary key as text.")
    if kind in (Kind.PURCHASE, Kind.RETURN):
        raise BadEvent(f"A {kind} is recorded by the shop itself, with feedback.record().")
    if kind not in BROWSER_KINDS:
        known = ", ".join(BROWSER_KINDS)
        raise BadEvent(f"There is no kind of event {str(kind)[:100]!r}; the kinds are {known}.")
    return str(Kind(kind)), product
