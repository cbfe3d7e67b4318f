"""Events: their kinds and worth, the limits of one visitor's weight, and how they are made and stored.

``read_offer`` reads from a signed token what a search showed; ``make_event`` builds an event about a *showing*;
``store`` and ``store_of_visitor`` insert events. Equal digests are one event, which counts once.
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

from ..db.rows import stored_id
from ..db.statements import execute_together
from ..fields.registry import get_field
from ..models import Feedback
from ..search.results import Ranking, read_token

logger = logging.getLogger("django_visual_search")

Kind: Any = Feedback.Kind

# The unit of worth is a click: the evidence's gain per look is then the chance of a click, corrected for position, and
# more where shoppers did more than click.
WORTH = {
    Kind.CLICK: 1.0,
    Kind.FAVOURITE: 2.0,
    Kind.CART: 3.0,
    Kind.PURCHASE: 5.0,
    Kind.SKIP: -1.0,
    Kind.RETURN: -4.0,
}
"""Gain of each kind, on top of the events before it.

Of those who click, a few in a hundred buy, so a purchase says more than a click, and so on in between. The numbers grow
slower than the odds do, or a single purchase would outweigh all clicks. A return takes back most of the purchase, but
not all: the product looked right to the shopper. A skip takes back a click.
"""

BROWSER_KINDS = (Kind.IMPRESSION, Kind.CLICK, Kind.FAVOURITE, Kind.CART, Kind.SKIP)
"""Kinds that a browser may report; purchase and return come from the shop."""

LOOKED_AT = (Kind.CLICK, Kind.FAVOURITE, Kind.CART, Kind.PURCHASE, Kind.SKIP)
"""Kinds that imply an impression, as the shopper has seen the product."""

# A browser can be made to report anything, so reports are bounded for one period (SESSION_DAYS), in which a visitor
# keeps one pseudonym. Events beyond these bounds are kept and have no weight.
PRODUCT_GAIN = 3.0
"""Most that one session adds to a product, over all queries: as much as a cart. The least is a skip."""
SESSION_GAIN = 20.0
"""Absolute gain after which a session's events have no weight, impressions included, so that the ratio of gain to looks
stays: about the clicks of a long evening."""
NETWORK_SESSIONS = 20
"""Sessions of one network that count: those of a household or an office, not of a machine with many User-Agents."""
NETWORK_PRODUCT_SESSIONS = 1
"""Sessions of one network that count for one product: a machine can be as many visitors as it likes."""

SESSION_ROWS = 1_000
NETWORK_ROWS = 10_000
"""Events of one session and of one network that are kept in a period; the log says when others were dropped."""


class BadToken(ValueError):  # noqa: N818
    """The token is forged, altered or too old."""


class NotOffered(ValueError):  # noqa: N818
    """The search did not show the product."""


class BadEvent(ValueError):  # noqa: N818
    """Not an event, or not one that a browser may report."""


# The products that a search showed


@dataclass(frozen=True)
class Showing:
    """The place of one product in a search; empty where the search is unknown."""

    label: str = ""
    extractor_key: str = ""
    query_kind: str = ""
    query_id: str = ""
    search: uuid.UUID | None = None
    rank: int | None = None
    similarity: float | None = None
    rule: int | None = None
    """Primary key of the ranking rule that gave the product its rank."""


class Offer:
    """The products that a search has shown so far. Raises LookupError where its field no longer exists."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking
        self.model: type[models.Model] = get_field(ranking.label).product_model._meta.concrete_model
        """The products' concrete model."""
        # Places of other pages are blank.
        shown = ranking.places[: ranking.shown]
        self._ranks = {self.stored(place.product_pk): rank for rank, place in enumerate(shown, 1) if place.product_pk}

    def stored(self, product_pk: str) -> str:
        """Return the text by which events name the product that pages show with this key."""
        return stored_id(self.model, product_pk, router.db_for_read(self.model))

    def showing_of(self, product_pk: str) -> Showing:
        """Return how the product was shown. Raise NotOffered where it was not. ``product_pk``: as ``stored``."""
        rank = self._ranks.get(product_pk)
        if rank is None:
            raise NotOffered(f"The search did not show a product with the primary key {product_pk[:100]!r}.")
        ranking, place = self.ranking, self.ranking.places[rank - 1]
        return Showing(
            ranking.label,
            ranking.extractor_key,
            ranking.query_kind,
            self.stored(ranking.query_id) if ranking.query_id else "",
            uuid.UUID(ranking.search),
            rank,
            place.similarity,
            place.rule,
        )


def read_offer(token: Any) -> tuple[Offer, datetime]:
    """Return a token's record of what was shown, and when. Raise BadToken."""
    if not isinstance(token, str):
        raise BadToken("The token must be text, as the search returned it.")
    try:
        offer = Offer(read_token(token))
    except signing.SignatureExpired as e:
        raise BadToken("The token is too old. Search again.") from e
    except (signing.BadSignature, UnicodeError) as e:
        raise BadToken("The token is not valid. Send it as the search returned it.") from e
    except LookupError as e:
        raise BadToken("The token is of a search that no longer exists. Search again.") from e
    signed_at = signing.b62_decode(token.rsplit(":", 2)[1])
    return offer, datetime.fromtimestamp(signed_at, UTC)


# Making an event


def make_event(
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
    """Return an unsaved event about the product of ``model`` (a concrete model) with that primary key."""
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
        rule=showing.rule,
        session=session,
        network=network,
        digest=_event_digest(kind, model, object_id, showing, session, reference),
    )


def reference_digests(kind: str, model: type[models.Model], object_id: str, reference: str) -> list[str]:
    """Return the digests of an event with a reference: by ``SECRET_KEY``, then by each of ``SECRET_KEY_FALLBACKS``.

    Order numbers can be guessed, so these are HMACs: without the key, an order's event can't be found.
    """
    text = _join_parts(kind, model._meta.label_lower, object_id, reference)
    return [
        salted_hmac("django_visual_search.feedback.reference", text, secret, algorithm="sha256").hexdigest()
        for secret in [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    ]


def is_recorded(kind: str, model: type[models.Model], object_id: str, reference: str) -> bool:
    """Return whether there is an event of that kind, product and reference."""
    return Feedback.objects.filter(digest__in=reference_digests(kind, model, object_id, reference)).exists()


def _event_digest(
    kind: str, model: type[models.Model], object_id: str, showing: Showing, session: str, reference: str | None
) -> str:
    """Return the digest of a reference, or of what one session did with one product of one query.

    A pseudonym changes with the period, so each period has its own. The search's id is not part of it: the same query
    again is the same query, and so are any two photos.
    """
    if reference is not None:
        return reference_digests(kind, model, object_id, reference)[0]
    parts = [kind, model._meta.label_lower, object_id, showing.query_kind, showing.query_id]
    return hashlib.sha256(_join_parts(*parts, session or uuid.uuid4().hex).encode()).hexdigest()


def _join_parts(*parts: str) -> str:
    return "\0".join(parts)


# Storing events


def store(events: Iterable[Feedback]) -> set[str]:
    """Insert the events that are new, and return their digests. Of two equal events at once, one is new."""
    return _insert(connections[router.db_for_write(Feedback)], list(events))


def store_of_visitor(events: Iterable[Feedback], session: str, network: str) -> tuple[set[str], set[str]]:
    """Insert the events of one visitor's browser. Return the digests of new events, and of those over the limit."""
    rows = {row.digest: row for row in events}
    using = router.db_for_write(Feedback)
    with transaction.atomic(using=using):
        stored, room = _stored_and_room(connections[using], list(rows), session, network)
        new = [row for row in rows.values() if row.digest not in stored]
        over = {row.digest for row in new[room:]}
        inserted = _insert(connections[using], new[:room])
    if 0 < room <= len(new):
        logger.warning("visual search: a session or network sent more feedback than is kept; the rest is dropped")
    return inserted, over


def _stored_and_room(connection: Any, digests: list[str], session: str, network: str) -> tuple[set[str], int]:
    """Return the events that are stored already, and how many more may be added."""
    table = connection.ops.quote_name(Feedback._meta.db_table)
    count = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE %s = %%s LIMIT %%s) AS found"
    _, stored, ((of_session,),), ((of_network,),) = execute_together(
        connection,
        [
            # One report of a session at a time, so that its events have their ids in that order.
            ("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (session,)),
            (f"SELECT digest FROM {table} WHERE digest = ANY(%s)", (digests,)),
            (count % "session", (session, SESSION_ROWS)),
            (count % "network", (network, NETWORK_ROWS)),
        ],
    )
    return {row[0] for row in stored}, max(0, min(SESSION_ROWS - of_session, NETWORK_ROWS - of_network))


def _insert(connection: Any, rows: list[Feedback]) -> set[str]:
    """Insert rows in one statement and return the digests of new rows.

    Not ``bulk_create(ignore_conflicts=True)``, which doesn't say which rows it inserted.
    """
    if not rows:
        return set()
    fields = [field for field in Feedback._meta.concrete_fields if not field.primary_key]
    quote = connection.ops.quote_name
    table, columns = quote(Feedback._meta.db_table), ", ".join(quote(field.column) for field in fields)
    places = f"({', '.join(['%s'] * len(fields))})"
    sql = (
        f"INSERT INTO {table} ({columns}) VALUES {', '.join([places] * len(rows))} "
        "ON CONFLICT (digest) DO NOTHING RETURNING digest"
    )
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return {digest for (digest,) in cursor.fetchall()}
