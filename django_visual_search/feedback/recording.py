"""Recording events: ``record`` for the shop's own code, ``report`` for reports from browsers.

The shop may record any kind of event, purchases and returns above all. A browser may report what a visitor did with the
products that a signed token says it was shown. ``search_behind`` finds the search that led to a later event: the one in
which the visitor last clicked on the product.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connections, models, router, transaction
from django.utils import timezone

from ..db.rows import stored_id
from ..fields import EmbeddingField
from ..fields.products import has_variants, searched_key
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
    is_recorded,
    make_event,
    read_offer,
    reference_digests,
    store,
    store_of_visitor,
)
from .sessions import (
    ip_network_of,
    session_of,
    session_of_user,
    sessions_between,
    user_identity,
    user_of,
    visitor_identity,
)

logger = logging.getLogger("django_visual_search")

MOST_EVENTS = 200
"""Events in one report: an impression and a click of each hit on all pages of a search."""
CLICK_DAYS = 7
"""Time after a click in which a favourite, cart or purchase is attributed to it, as is usual in shops' statistics."""
PURCHASE_DAYS = 60
"""Time after a purchase in which a return is attributed to it."""


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

    A variant counts as the product that searches find for it, such as its parent.
    Its owner is ``session``, else ``user``, else the visitor who sends ``request``; the request must be the shopper's,
    not a payment provider's. Its search is that of the ``results`` that showed the product, else that for the product
    ``query``; with neither, the search in which the same user or visitor clicked on the product before
    (``search_behind``). ``reference``: the shop's name for the event, such as an order line; the same kind, product and
    reference count once, whoever sends them. Of two equal calls at once, one returns True.

    ``at``: now by default; a time without a time zone is in the project's own.

    Inside a transaction of the shop the event is part of it, and errors leave the transaction intact: the error is
    logged, and False returned. (Only where the shop's transaction itself is lost is the error raised.) Raise ValueError
    for an unknown kind, for a product that no visual search finds and for one that ``results`` did not show.
    """
    model, object_id = _name_product(product)
    if kind not in Kind.values:
        raise ValueError(f"There is no kind of event {kind!r}; the kinds are {', '.join(Kind.values)}.")
    if session is not None and not re.fullmatch(r"[0-9a-f]{64}", session):
        raise ValueError("'session' must be a return value of feedback.session_of().")
    at = at or timezone.now()
    if timezone.is_naive(at):
        at = timezone.make_aware(at, timezone.get_default_timezone())
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
            row = make_event(kind, model, object_id, cause, at=at, session=session, reference=reference)
            implied = []
            if showing and kind in LOOKED_AT:
                implied = [make_event(Kind.IMPRESSION, model, object_id, showing, at=at, session=session)]
            return row.digest in store([*implied, row])
    except Exception:  # an order is worth more than its event
        if connections[using].needs_rollback:
            raise
        logger.exception("visual search: a %s of %s %s could not be recorded", kind, model._meta.label, object_id)
        return False


@dataclass(frozen=True)
class Report:
    """Numbers of events in a report that count and that don't."""

    counted: int
    duplicates: int
    """Reported before, by the same visitor in the same period."""
    over_limit: int = 0
    """Beyond the limits of one visitor or network in a period."""


def report(request: Any, token: str, events: Iterable[tuple[str, str]]) -> Report:
    """Store a browser's events: pairs of kind and the product's primary key as text.

    ``token`` is SearchResults.token, which has the query, ranks, similarities and the extractor. Kinds are impression,
    click, favourite, cart and skip; each implies an impression. All events are stored, or none: raise BadToken,
    NotOffered or BadEvent, which are ValueErrors.
    """
    offer, shown_at = read_offer(token)
    pairs = [_checked_pair(pair) for pair in _list(events)]
    # The search's period, so that a token sent again in the next period doesn't count twice.
    session, network = session_of(request, shown_at), ip_network_of(request, shown_at)
    at = timezone.now()

    def make(kind: str, object_id: str, showing: Showing) -> Feedback:
        return make_event(kind, offer.model, object_id, showing, at=at, session=session, network=network)

    rows, implied = [], []
    for kind, object_id in pairs:
        object_id = offer.stored(object_id)
        showing = offer.showing_of(object_id)
        rows.append(make(kind, object_id, showing))
        if kind in LOOKED_AT:
            implied.append(make(Kind.IMPRESSION, object_id, showing))
    digests = [row.digest for row in rows]
    new, over = store_of_visitor([*implied, *rows], session, network)
    counted, dropped = len(new.intersection(digests)), len(over.intersection(digests))
    return Report(counted, len(digests) - counted - dropped, dropped)


# Helpers of record


def _name_product(product: Any) -> tuple[type[models.Model], str]:
    """Return the concrete model and, as text, the key of the product that searches find (``_searched_product``)."""
    fields = fields_of_product(product._meta.model) if isinstance(product, models.Model) else []
    if not fields:
        raise ValueError(f"{product!r} is not of a model with an EmbeddingField, so no visual search finds it.")
    model = fields[0].product_model._meta.concrete_model
    if getattr(product, model._meta.pk.attname) is None:
        raise ValueError(f"{product!r} has no primary key; record it after it is saved and before it is deleted.")
    return model, stored_id(model, str(_searched_product(fields[0], product)), router.db_for_read(model))


def _searched_product(field: EmbeddingField, product: models.Model) -> Any:
    """Return the primary key of the product that searches find for this one: a variant's parent may be that.

    Where the database fails, its own: an order is worth more than its event.
    """
    if not has_variants(field):
        return product.pk
    using = product._state.db or router.db_for_read(field.model)
    try:
        with transaction.atomic(using=using):
            return searched_key(field, product)
    except DatabaseError:
        if connections[using].needs_rollback:
            raise
        logger.exception("visual search: the parent of %s %s could not be read", product._meta.label, product.pk)
        return product.pk


def _showing(model: type[models.Model], object_id: str, query: models.Model | None, results: Any) -> Showing | None:
    if results is not None:
        return Offer(results.ranking if isinstance(results, SearchResults) else results).showing_of(object_id)
    if query is None:
        return None
    query_model, query_id = _name_product(query)
    if query_model is not model:
        raise ValueError(f"A {model._meta.label} is not among the similar items of {query!r}.")
    return Showing(query_kind="product", query_id=query_id)


def _session(request: Any, user: Any, at: datetime) -> str:
    if user is not None and getattr(user, "is_authenticated", True):
        return session_of_user(user, at)
    return "" if request is None else session_of(request, at)


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
    """Return how a search showed the product to the same user or visitor; an empty Showing without such a search.

    That is the search of the latest click for a favourite, a cart or a purchase; for a return, that of the purchase
    with the same reference, else of the latest purchase.
    """
    events = Feedback.objects.filter(content_type=ContentType.objects.get_for_model(model), object_id=object_id)
    events = events.exclude(query_kind="")
    if kind == Kind.RETURN:
        if reference is not None:
            digests = reference_digests(Kind.PURCHASE, model, object_id, reference)
            if found := _latest(events.filter(digest__in=digests)):
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
    return _latest(events.filter(session__in=sessions, kind=before, created_at__range=(first, at))) or Showing()


def _identities(request: Any, user: Any) -> list[str]:
    """Return the user and the visitor, as a user may have clicked before logging in."""
    found = []
    if user is not None and getattr(user, "is_authenticated", True):
        found.append(user_identity(user))
    if request is not None:
        found.append(visitor_identity(request))
        if user is None and (logged_in := user_of(request)) is not None:
            found.append(user_identity(logged_in))
    return found


def _latest(events: Any) -> Showing | None:
    names = ("label", "extractor_key", "query_kind", "query_id", "search", "rank", "similarity", "rule")
    # With LIMIT 1, PostgreSQL may walk through everybody's events by their time.
    found = max(events.order_by().values_list("created_at", "id", *names), key=lambda row: row[:2], default=None)
    return Showing(*found[2:]) if found else None


# Helpers of report


def _list(events: Any) -> list[Any]:
    if not isinstance(events, Iterable) or isinstance(events, str | bytes | dict):
        raise BadEvent("'events' must be a list of events, each with a kind and a product.")
    listed = list(events)
    if len(listed) > MOST_EVENTS:
        raise BadEvent(f"At most {MOST_EVENTS} events can be reported at once, not {len(listed)}.")
    return listed


def _checked_pair(pair: Any) -> tuple[str, str]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise BadEvent("An event is a kind and the primary key of a product.")
    kind, product = pair
    if isinstance(product, int) and not isinstance(product, bool):
        product = str(product)
    if not isinstance(product, str):
        raise BadEvent("The product of an event is its primary key as text.")
    if kind in (Kind.PURCHASE, Kind.RETURN):
        raise BadEvent(f"A {kind} is recorded by the shop itself, by feedback.record().")
    if kind not in BROWSER_KINDS:
        kinds = ", ".join(BROWSER_KINDS)
        raise BadEvent(f"There is no kind of event {str(kind)[:100]!r}; the kinds are {kinds}.")
    return str(Kind(kind)), product
