"""What the shop itself records: any kind of event, purchases and returns above all."""

from __future__ import annotations

import logging
import re
from datetime import datetime
from typing import Any

from django.db import Error, connections, models, router, transaction
from django.utils import timezone

from ..fields.registry import fields_of_product
from ..models import Feedback
from ..search import SearchResults
from ..search.results import Ranking
from .attribution import search_behind
from .events import event, is_recorded, store
from .offers import Offer, Showing
from .sessions import session_of, session_of_user
from .weights import LOOKED_AT, Kind

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
