"""Which search led to what a shopper did later: the one in which he or she clicked on the product last.

What the shop itself records: any kind of event, purchases and returns above all.

What a shopper's browser may say: only what it did with products that a signed token shows it was offered.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import Error, connections, models, router, transaction
from django.utils import timezone

from ..fields.registry import fields_of_product
from ..models import Feedback
from ..search import SearchResults
from ..search.results import Ranking
from .events import (
    BROWSER_KINDS,
    LOOKED_AT,
    BadEvent,
    Kind,
    Offer,
    Showing,
    event,
    is_recorded,
    read_offer,
    reference_digests,
    store,
    store_of_visitor,
)
from .sessions import (
    network_of,
    session_of,
    session_of_user,
    sessions_between,
    user_identity,
    user_of,
    visitor_identity,
)

CLICK_DAYS = 7
"""How long after a click a favourite, cart or purchase is put down to it: a usual window of shops' statistics."""
PURCHASE_DAYS = 60
"""How long after a purchase a return is put down to it."""


def search_behind(
    kind: str,
    model: type[models.Model],
    object_id: str,
    at: datetime,
    *,
    request: Any = None,
    user: Any = None,
    session: str = "",
    reference: str | None = None,
) -> Showing:
    """The search that showed the product to the same user or visitor; an empty Showing where none is known.

    That of the latest click, for a favourite, a cart or a purchase; for a return, that of the purchase with the same
    reference, else of the latest purchase.
    """
    about = Feedback.objects.filter(content_type=ContentType.objects.get_for_model(model), object_id=object_id)
    about = about.exclude(query_kind="")
    if kind == Kind.RETURN:
        if reference is not None:
            digests = reference_digests(Kind.PURCHASE, model, object_id, reference)
            if found := _latest(about.filter(digest__in=digests)):
                return found
        before, days = Kind.PURCHASE, PURCHASE_DAYS
    elif kind in (Kind.FAVOURITE, Kind.CART, Kind.PURCHASE):
        before, days = Kind.CLICK, CLICK_DAYS
    else:
        return Showing()
    first = at - timedelta(days=days)
    sessions = {session, *sessions_between(_identities(request, user), first, at)} - {""}
    if not sessions:
        return Showing()
    return _latest(about.filter(session__in=sessions, kind=before, created_at__range=(first, at))) or Showing()


def _identities(request: Any, user: Any) -> list[str]:
    """Both, for a user may have clicked before logging in."""
    found = []
    if user is not None and getattr(user, "is_authenticated", True):
        found.append(user_identity(user))
    if request is not None:
        found.append(visitor_identity(request))
        if user is None and (logged_in := user_of(request)) is not None:
            found.append(user_identity(logged_in))
    return found


def _latest(events: Any) -> Showing | None:
    names = ("label", "extractor_key", "query_kind", "query_id", "search", "rank", "similarity")
    # Asked for the latest only, PostgreSQL may walk through everybody's events by their time.
    found = max(events.order_by().values_list("created_at", "id", *names), key=lambda row: row[:2], default=None)
    return Showing(*found[2:]) if found else None


logger = logging.getLogger("django_visual_search")


def record(
    kind: str,
    product: models.Model,
    *,
    request: Any = None,
    user: Any = None,
    session: str | None = None,
    query: models.Model | None = None,
    results: SearchResults | Ranking | None = None,
    reference: str | None = None,
    at: datetime | None = None,
) -> bool:
    """Record an event of any kind, and return whether it is new. For the shop's own code.

    Whose it is: ``session``, else ``user``, else the visitor who sends ``request``; the request must be the shopper's,
    not that of a payment provider. What led to it: ``results`` that showed the product, else the product ``query`` that
    it was similar to; with neither, the search in which the same user or visitor clicked on it before
    (``attribution``). ``reference``: the shop's name for what happened, such as an order line; the same kind, product
    and reference count once, whoever sends them.

    Within a transaction of the shop it is part of that, and a database error leaves it as it was: the error is logged,
    and False returned. (Only where the shop's transaction itself is lost is the error raised.) Raises ValueError for an
    unknown kind, for what is no searchable product and for one that ``results`` did not show.
    """
    model, object_id = _named(product)
    if kind not in Kind.values:
        raise ValueError(f"There is no kind of event {kind!r}; the kinds are {', '.join(Kind.values)}.")
    if session is not None and not re.fullmatch(r"[0-9a-f]{64}", session):
        raise ValueError("'session' must be what feedback.session_of() gives.")
    at = at or timezone.now()
    if timezone.is_naive(at):
        raise ValueError("'at' must have a time zone.")
    showing = _showing(model, object_id, query, results)
    using = router.db_for_write(Feedback)
    try:
        with transaction.atomic(using=using):
            if reference is not None and is_recorded(kind, model, object_id, reference):
                return False
            if session is None:
                session = _session(request, user, at)
            cause = showing or search_behind(
                kind, model, object_id, at, request=request, user=user, session=session, reference=reference
            )
            row = event(kind, model, object_id, cause, at=at, session=session, reference=reference)
            brought = []
            if showing and kind in LOOKED_AT:
                brought = [event(Kind.IMPRESSION, model, object_id, showing, at=at, session=session)]
            return row.digest in store([*brought, row])
    except Error:
        if connections[using].needs_rollback:
            raise
        logger.exception("visual search: a %s of %s %s could not be recorded", kind, model._meta.label, object_id)
        return False


def _named(product: Any) -> tuple[type[models.Model], str]:
    """The concrete model by which searches find the product, and its primary key as text."""
    fields = fields_of_product(type(product)) if isinstance(product, models.Model) else []
    if not fields:
        raise ValueError(f"{product!r} is not of a model with an EmbeddingField, so no visual search finds it.")
    model = fields[0].product_model._meta.concrete_model
    key = getattr(product, model._meta.pk.attname)
    if key is None:
        raise ValueError(f"{product!r} has no primary key; record it before it is deleted, and after it is saved.")
    return model, str(key)


def _showing(model: type[models.Model], object_id: str, query: models.Model | None, results: Any) -> Showing | None:
    if results is not None:
        return Offer(results.ranking if isinstance(results, SearchResults) else results).showing_of(object_id)
    if query is None:
        return None
    asked, query_id = _named(query)
    if asked is not model:
        raise ValueError(f"A {model._meta.label} is not among the similar items of {query!r}.")
    return Showing(query_kind="product", query_id=query_id)


def _session(request: Any, user: Any, at: datetime) -> str:
    if user is not None and getattr(user, "is_authenticated", True):
        return session_of_user(user, at)
    return "" if request is None else session_of(request, at)


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
