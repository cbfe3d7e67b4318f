"""Why feedback is not taken. All are ValueErrors whose text says what is wrong.

What an event is worth, and how much of it may come from one visitor or one network.

A click is the unit: the evidence's gain per look is then the chance of a click, corrected for position, and more where
shoppers did more than click.

What a search showed to whom: read from its signed token, or from its results.

Makes and stores events: the same thing said twice is one event.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.db import connections, models, router, transaction
from django.utils.crypto import salted_hmac

from ..db.statements import execute_together
from ..fields.registry import get_field
from ..models import Feedback
from ..search.results import Ranking, read_token


class BadToken(ValueError):  # noqa: N818
    """The token was not made here, was altered, or is too old."""


class NotOffered(ValueError):  # noqa: N818
    """The search did not show the product."""


class BadEvent(ValueError):  # noqa: N818
    """Not an event, or not one that may be said here."""


Kind: Any = Feedback.Kind

WORTH = {
    Kind.CLICK: 1.0,
    Kind.FAVOURITE: 2.0,
    Kind.CART: 3.0,
    Kind.PURCHASE: 5.0,
    Kind.SKIP: -1.0,
    Kind.RETURN: -4.0,
}
"""Gain of each kind, on top of what came before.

Of those who click, a few in a hundred buy, so a purchase says more than a click, and so on in between. The numbers grow
slower than the odds do, or a single purchase would outweigh all clicks. A return takes back most of the purchase, but
not all: by its looks the product was what the shopper wanted. A skip takes back a click.
"""

BROWSER_KINDS = (Kind.IMPRESSION, Kind.CLICK, Kind.FAVOURITE, Kind.CART, Kind.SKIP)
"""What a shopper's browser may say; purchase and return are the shop's to say."""

LOOKED_AT = (Kind.CLICK, Kind.FAVOURITE, Kind.CART, Kind.PURCHASE, Kind.SKIP)
"""Who does this has seen the product: the event brings its impression along."""

# Anybody can make a browser say anything, so what browsers say is bounded, for one period (SESSION_DAYS) in which a
# visitor keeps his or her pseudonym. What is beyond these bounds is kept, and counts for nothing.
PRODUCT_GAIN = 3.0
"""Most that one session adds to a product, over all queries: as much as a cart. The least is a skip."""
SESSION_GAIN = 20.0
"""Gain (regardless of sign) after which nothing of a session counts, impressions neither, so that the rates of gain to
looks stay as they are: about the clicks of a long evening."""
NETWORK_SESSIONS = 20
"""Sessions of one network that count: those of a household or an office, not of a machine with many User-Agents."""
NETWORK_PRODUCT_SESSIONS = 1
"""Sessions of one network that count for one product: a machine can be as many visitors as it likes."""

SESSION_ROWS = 1_000
NETWORK_ROWS = 10_000
"""Events of one session and of one network that are kept in a period; the log says when others were dropped."""


@dataclass(frozen=True)
class Showing:
    """How a search showed one product; empty where no search is known."""

    label: str = ""
    extractor_key: str = ""
    query_kind: str = ""
    query_id: str = ""
    search: uuid.UUID | None = None
    rank: int | None = None
    similarity: float | None = None


class Offer:
    """The products that a search has shown so far. Raises LookupError where its field is not there any more."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking
        self.model: type[models.Model] = get_field(ranking.label).product_model._meta.concrete_model
        """The products' concrete model."""
        # A place may be left blank where only its number matters.
        shown = ranking.places[: ranking.shown]
        self._ranks = {place.product_pk: rank for rank, place in enumerate(shown, 1) if place.product_pk}

    def showing_of(self, product_pk: str) -> Showing:
        """Raises NotOffered for a product that was not shown."""
        rank = self._ranks.get(product_pk)
        if rank is None:
            raise NotOffered(f"The search did not show a product with the primary key {product_pk[:100]!r}.")
        ranking = self.ranking
        return Showing(
            ranking.label,
            ranking.extractor_key,
            ranking.query_kind,
            ranking.query_id,
            uuid.UUID(ranking.search),
            rank,
            ranking.places[rank - 1].similarity,
        )


def read_offer(token: Any) -> tuple[Offer, datetime]:
    """What a token says was shown, and when. Raises BadToken."""
    if not isinstance(token, str):
        raise BadToken("The token must be text, as the search gave it.")
    try:
        offer = Offer(read_token(token))
    except signing.SignatureExpired as e:
        raise BadToken("The token is too old. Search again.") from e
    except (signing.BadSignature, UnicodeError) as e:
        raise BadToken("The token is not valid. Send it as the search gave it.") from e
    except LookupError as e:
        raise BadToken("The token is of a search that is not there any more. Search again.") from e
    signed_at = signing.b62_decode(token.rsplit(":", 2)[1])
    return offer, datetime.fromtimestamp(signed_at, UTC)


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
