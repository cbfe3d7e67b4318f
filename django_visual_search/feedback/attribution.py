"""Which search led to what a shopper did later: the one in which he or she clicked on the product last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import models

from ..models import Feedback
from .events import reference_digests
from .offers import Showing
from .sessions import sessions_between, user_identity, user_of, visitor_identity
from .weights import Kind

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
