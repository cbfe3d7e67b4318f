"""Makes and stores events: the same thing said twice is one event."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models, router, transaction
from django.utils.crypto import salted_hmac

from ..db.statements import execute_together
from ..models import Feedback
from .offers import Showing
from .weights import NETWORK_ROWS, SESSION_ROWS

logger = logging.getLogger("django_visual_search")


def event(
    kind: str,
    model: type[models.Model],
    object_id: str,
    showing: Showing,
    *,
    at: datetime,
    session: str = "",
    network: str = "",
    reference: str | None = None,
) -> Feedback:
    """An unsaved event about the product of ``model`` (a concrete model) with that primary key."""
    return Feedback(
        kind=kind,
        created_at=at,
        content_type=ContentType.objects.get_for_model(model),
        object_id=object_id,
        label=showing.label,
        extractor_key=showing.extractor_key,
        query_kind=showing.query_kind,
        query_id=showing.query_id,
        search=showing.search,
        rank=showing.rank,
        similarity=showing.similarity,
        session=session,
        network=network,
        digest=_digest(kind, model, object_id, showing, session, reference),
    )


def reference_digests(kind: str, model: type[models.Model], object_id: str, reference: str) -> list[str]:
    """Of the shop's own name for what happened; by ``SECRET_KEY`` first, then by ``SECRET_KEY_FALLBACKS``.

    Order numbers can be guessed, so these are HMACs: without the key nobody finds the event of an order.
    """
    said = _joined(kind, model._meta.label_lower, object_id, reference)
    return [
        salted_hmac("django_visual_search.feedback.reference", said, secret, algorithm="sha256").hexdigest()
        for secret in [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    ]


def is_recorded(kind: str, model: type[models.Model], object_id: str, reference: str) -> bool:
    """Whether there is an event of that kind, product and reference."""
    return Feedback.objects.filter(digest__in=reference_digests(kind, model, object_id, reference)).exists()


def _digest(
    kind: str, model: type[models.Model], object_id: str, showing: Showing, session: str, reference: str | None
) -> str:
    """Equal for what counts once: the reference, or what one session did with one product of one query.

    A pseudonym changes with the period, so each period has its own. A search's id is not part of it: the same question
    asked again is the same question, and for photos any two are the same.
    """
    if reference is not None:
        return reference_digests(kind, model, object_id, reference)[0]
    said = [kind, model._meta.label_lower, object_id, showing.query_kind, showing.query_id]
    return hashlib.sha256(_joined(*said, session or uuid.uuid4().hex).encode()).hexdigest()


def _joined(*parts: str) -> str:
    return "\0".join(parts)


def store(events: Iterable[Feedback]) -> set[str]:
    """Add those that are not there yet, and return their digests."""
    rows = {row.digest: row for row in events}
    using = router.db_for_write(Feedback)
    with transaction.atomic(using=using):
        known = set(Feedback.objects.using(using).filter(digest__in=rows).values_list("digest", flat=True))
        new = [row for row in rows.values() if row.digest not in known]
        Feedback.objects.using(using).bulk_create(new, ignore_conflicts=True)
    return {row.digest for row in new}


def store_of_visitor(events: Iterable[Feedback], session: str, network: str) -> tuple[set[str], set[str]]:
    """Add what one visitor's browser says. Returns the digests that are new, and those that were over the limit."""
    rows = {row.digest: row for row in events}
    using = router.db_for_write(Feedback)
    with transaction.atomic(using=using):
        known, room = _look(connections[using], list(rows), session, network)
        new = [row for row in rows.values() if row.digest not in known]
        new, over = new[:room], new[room:]
        Feedback.objects.using(using).bulk_create(new, ignore_conflicts=True)
    if 0 < room <= len(new) + len(over):
        logger.warning("visual search: a session or network sent more feedback than is kept; what follows is dropped")
    return {row.digest for row in new}, {row.digest for row in over}


def _look(connection: Any, digests: list[str], session: str, network: str) -> tuple[set[str], int]:
    """Which events are there already, and how many more may be added."""
    table = connection.ops.quote_name(Feedback._meta.db_table)
    count = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE %s = %%s LIMIT %%s) AS found"
    _, known, ((of_session,),), ((of_network,),) = execute_together(
        connection,
        [
            # What one session says is taken one after the other, so that its events have their ids in that order.
            ("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (session,)),
            (f"SELECT digest FROM {table} WHERE digest = ANY(%s)", (digests,)),
            (count % "session", (session, SESSION_ROWS)),
            (count % "network", (network, NETWORK_ROWS)),
        ],
    )
    return {row[0] for row in known}, max(0, min(SESSION_ROWS - of_session, NETWORK_ROWS - of_network))
