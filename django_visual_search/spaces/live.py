"""The vector spaces that a field's vectors are in, and how every process learns that they change.

Entry function: ``live_spaces``. The *serving* space is the one in which new vectors are made. A *switch* to another is
announced first, so that every process knows of it before the first vector moves; until the last one has moved, both are
*live*.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections, router

from ..db.statements import Answer, Memory, Statement, ask
from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace

REMEMBERED_SECONDS = 10.0
"""Seconds that a process relies on the spaces it has read. A switch moves the first vector only after that time."""

spaces_memory = Memory(REMEMBERED_SECONDS)
"""Answers to ``live_spaces_statement``."""


@dataclass(frozen=True)
class Space:
    """A vector space: an extractor of the settings, with a learned head or without."""

    extractor: str
    head: int | None = None
    """Primary key of the EmbeddingHead."""
    key: str = ""
    """The head's extractor key; empty without a head."""


@dataclass(frozen=True)
class LiveSpaces:
    """The spaces of one field."""

    serving: Space
    """New vectors are made in it."""
    other: Space | None = None
    """Until every vector has moved, the other space that rows may be in."""

    @property
    def all(self) -> tuple[Space, ...]:
        """The spaces that a search asks."""
        return (self.serving,) if self.other is None else (self.serving, self.other)


def live_spaces(field: EmbeddingField, *, at_any_age: bool = False, using: str | None = None) -> LiveSpaces:
    """Return the field's spaces, which this process remembers for REMEMBERED_SECONDS.

    ``at_any_age``: however long ago they were read, for callers who must not wait for the database; the settings'
    extractor if they never were.
    """
    connection, statement = connections[using or router.db_for_read(field.model)], live_spaces_statement(field)
    if at_any_age:
        return live_spaces_from(field, spaces_memory.get(connection, statement, at_any_age=True) or [])
    answers, _ = ask(connection, {"spaces": (spaces_memory, statement)})
    return live_spaces_from(field, answers["spaces"])


def remembered_spaces(field: EmbeddingField, using: str) -> LiveSpaces | None:
    """Return the field's remembered spaces, or None if they are unknown or too old."""
    answer = spaces_memory.get(connections[using], live_spaces_statement(field))
    return None if answer is None else live_spaces_from(field, answer)


def live_spaces_statement(field: EmbeddingField) -> Statement:
    """Return SQL that reads the field's spaces, by the database's clock."""
    table, heads = ServingSpace._meta.db_table, EmbeddingHead._meta.db_table
    sql = (
        "SELECT s.extractor, s.head_id, coalesce(new.key, ''), s.previous_extractor, s.previous_head_id, "
        "coalesce(old.key, ''), s.effective_at <= clock_timestamp(), s.finished_at IS NOT NULL "
        f"FROM {table} s LEFT JOIN {heads} new ON new.id = s.head_id "
        f"LEFT JOIN {heads} old ON old.id = s.previous_head_id WHERE s.label = %s"
    )
    return sql, (field.label,)


def live_spaces_from(field: EmbeddingField, answer: Answer) -> LiveSpaces:
    """Return the spaces in an answer to ``live_spaces_statement``."""
    for *spaces, effective, finished in answer:
        new, old = Space(*spaces[:3]), Space(*spaces[3:])
        if finished:
            return LiveSpaces(new)
        return LiveSpaces(new, old) if effective else LiveSpaces(old, new)
    return LiveSpaces(Space(field.extractor))


def forget_live_spaces() -> None:
    """Ask the database again, as after a switch."""
    spaces_memory.forget()
