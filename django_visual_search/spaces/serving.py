"""Which vector space a field's vectors are made and searched in, and how a process comes to know when that changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.db import connections, router

from ..db.statements import Answer, Statement, execute_together
from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace

KNOWN_SECONDS = 10.0
"""How long a process goes on with what it knows. A switch moves the first vector only later than that."""


@dataclass(frozen=True)
class Space:
    """A vector space: an extractor of the settings, with a learned head or without."""

    extractor: str
    head: int | None = None
    """Primary key of the EmbeddingHead."""
    key: str = ""
    """The head's extractor key; empty without a head."""


@dataclass(frozen=True)
class Serving:
    """What one field is served by."""

    wanted: Space
    """Vectors are made in it."""
    also: Space | None = None
    """Until every vector has moved, the other space that rows may be in."""

    @property
    def live(self) -> tuple[Space, ...]:
        """The spaces that a search asks."""
        return (self.wanted,) if self.also is None else (self.wanted, self.also)


_known: dict[tuple[str, str], tuple[float, Serving]] = {}


def serving(field: EmbeddingField, *, at_any_age: bool = False) -> Serving:
    """What serves the field, as the database said at most KNOWN_SECONDS ago; asks it where that is longer ago.

    ``at_any_age``: what is known, however old, for those who must not wait for the database.
    """
    using = router.db_for_read(field.model)
    known = _remembered(field, using, at_any_age)
    if known is not None:
        return known
    if at_any_age:
        return Serving(Space(field.extractor))
    connection = connections[using]
    return learn(field, connection, execute_together(connection, [statement(field)])[0])


def asked(field: EmbeddingField, connection: Any) -> list[Statement]:
    """The statement whose answer ``learn`` takes, to go along with others; none where enough is known."""
    known = _remembered(field, connection.alias)
    return [] if known is not None else [statement(field)]


def statement(field: EmbeddingField) -> Statement:
    """SQL that reads what serves the field, by the database's clock."""
    table, heads = ServingSpace._meta.db_table, EmbeddingHead._meta.db_table
    sql = (
        "SELECT s.extractor, s.head_id, coalesce(new.key, ''), s.previous_extractor, s.previous_head_id, "
        "coalesce(old.key, ''), s.effective_at <= clock_timestamp(), s.finished_at IS NOT NULL "
        f"FROM {table} s LEFT JOIN {heads} new ON new.id = s.head_id "
        f"LEFT JOIN {heads} old ON old.id = s.previous_head_id WHERE s.label = %s"
    )
    return sql, (field.label,)


def learn(field: EmbeddingField, connection: Any, answer: Answer) -> Serving:
    """What the answer to ``statement`` says; remembered."""
    found = Serving(Space(field.extractor))
    for *spaces, effective, finished in answer:
        new, old = Space(*spaces[:3]), Space(*spaces[3:])
        if finished:
            found = Serving(new)
        elif effective:
            found = Serving(new, old)
        else:
            found = Serving(old, new)
    _known[connection.alias, field.label] = time.monotonic(), found
    return found


def forget() -> None:
    """Ask the database again, as after a switch."""
    _known.clear()


def _remembered(field: EmbeddingField, using: str, at_any_age: bool = False) -> Serving | None:
    at, known = _known.get((using, field.label), (0.0, None))
    return known if known is not None and (at_any_age or time.monotonic() - at < KNOWN_SECONDS) else None
