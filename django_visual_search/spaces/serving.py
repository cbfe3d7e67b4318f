"""Which vector space a field's vectors are made and searched in, and how a process comes to know when that changes.

Entry function: ``serving``. A *switch* to another space is announced first, so that every process knows of it before
the first vector moves; until the last one has moved, two spaces are *live*.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections, router

from ..db.statements import Answer, Memory, Statement, ask
from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace

KNOWN_SECONDS = 10.0
"""How long a process goes on with what it knows. A switch moves the first vector only later than that."""

memory = Memory(KNOWN_SECONDS)
"""Answers to ``serving_statement``."""


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
    """The spaces of one field."""

    wanted: Space
    """Vectors are made in it."""
    also: Space | None = None
    """Until every vector has moved, the other space that rows may be in."""

    @property
    def live(self) -> tuple[Space, ...]:
        """The spaces that a search asks."""
        return (self.wanted,) if self.also is None else (self.wanted, self.also)


def serving(field: EmbeddingField, *, at_any_age: bool = False, using: str | None = None) -> Serving:
    """Return the field's spaces, which this process remembers for KNOWN_SECONDS.

    ``at_any_age``: however long ago they were read, for callers who must not wait for the database; the settings'
    extractor if they never were.
    """
    connection, statement = connections[using or router.db_for_read(field.model)], serving_statement(field)
    if at_any_age:
        return serving_from(field, memory.get(connection, statement, at_any_age=True) or [])
    answers, _ = ask(connection, {"serving": (memory, statement)})
    return serving_from(field, answers["serving"])


def remembered(field: EmbeddingField, using: str) -> Serving | None:
    """Return the field's remembered spaces, or None if they are unknown or too old."""
    answer = memory.get(connections[using], serving_statement(field))
    return None if answer is None else serving_from(field, answer)


def serving_statement(field: EmbeddingField) -> Statement:
    """Return SQL that reads the field's spaces, by the database's clock."""
    table, heads = ServingSpace._meta.db_table, EmbeddingHead._meta.db_table
    sql = (
        "SELECT s.extractor, s.head_id, coalesce(new.key, ''), s.previous_extractor, s.previous_head_id, "
        "coalesce(old.key, ''), s.effective_at <= clock_timestamp(), s.finished_at IS NOT NULL "
        f"FROM {table} s LEFT JOIN {heads} new ON new.id = s.head_id "
        f"LEFT JOIN {heads} old ON old.id = s.previous_head_id WHERE s.label = %s"
    )
    return sql, (field.label,)


def serving_from(field: EmbeddingField, answer: Answer) -> Serving:
    """Return what an answer to ``serving_statement`` says."""
    for *spaces, effective, finished in answer:
        new, old = Space(*spaces[:3]), Space(*spaces[3:])
        if finished:
            return Serving(new)
        return Serving(new, old) if effective else Serving(old, new)
    return Serving(Space(field.extractor))


def forget_serving() -> None:
    """Ask the database again, as after a switch."""
    memory.forget()
