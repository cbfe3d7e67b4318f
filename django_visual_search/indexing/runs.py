"""Count the results of indexing, and write the progress of the latest run over a field for the dashboard.

A *run* is one sweep, one ``reindex_embeddings`` or one check of what can be found.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from django.db import connections, router
from django.utils import timezone

from ..fields import EmbeddingField
from ..models import IndexingRun


@dataclass
class Outcome:
    """The results of indexing: counts, and the reasons for missing vectors."""

    done: int = 0
    skipped: int = 0
    """Pictures that were current already, held by another process, or changed during the work."""
    cleared: int = 0
    refused: int = 0
    failed: int = 0
    quarantined: int = 0
    reasons: Counter[str] = dataclass_field(default_factory=Counter)

    @property
    def without_vector(self) -> int:
        return self.refused + self.failed + self.quarantined

    @property
    def settled(self) -> int:
        """Number of pictures with a result."""
        return self.done + self.cleared + self.without_vector

    def add(self, other: Outcome) -> None:
        """Add another outcome's counts."""
        for name in ("done", "skipped", "cleared", "refused", "failed", "quarantined"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)


# The latest to start keeps the row: a long sweep that a later one has overtaken writes no more.
WRITE = """
INSERT INTO {table} AS latest (label, kind, started_at, updated_at, finished_at, total, done, failed)
VALUES (%(label)s, %(kind)s, %(started)s, %(now)s, %(finished)s, %(total)s, %(done)s, %(failed)s)
ON CONFLICT (label, kind) DO UPDATE SET
    started_at = EXCLUDED.started_at, updated_at = EXCLUDED.updated_at, finished_at = EXCLUDED.finished_at,
    total = EXCLUDED.total, done = EXCLUDED.done, failed = EXCLUDED.failed
WHERE latest.started_at <= EXCLUDED.started_at
"""


class Run:
    """One run over a field, by ``IndexingRun.Kind``; ``total`` pictures, where they were counted.

    It is written at most every ``write_seconds``, and at its end; one that is interrupted never finishes.
    """

    def __init__(
        self, field: EmbeddingField, kind: Any, total: int | None = None, *, write_seconds: float = 2.0
    ) -> None:
        self.field = field
        self.kind = kind
        self.total = total
        self.write_seconds = write_seconds
        self.started = timezone.now()
        self.written = time.monotonic()

    def show(self, outcome: Outcome) -> None:
        """Write the results so far, if it is time."""
        if time.monotonic() - self.written >= self.write_seconds:
            self.write(outcome)

    def finish(self, outcome: Outcome) -> None:
        """Write the results, and that the run has ended."""
        self.write(outcome, finished=True)

    def write(self, outcome: Outcome, *, finished: bool = False) -> None:
        """Write the results so far, in one small statement."""
        connection = connections[router.db_for_write(self.field.model)]
        now = timezone.now()
        values = {
            "label": self.field.label,
            "kind": self.kind,
            "started": self.started,
            "now": now,
            "finished": now if finished else None,
            "total": self.total,
            "done": outcome.done + outcome.cleared,
            "failed": outcome.without_vector,
        }
        with connection.cursor() as cursor:
            cursor.execute(WRITE.format(table=connection.ops.quote_name(IndexingRun._meta.db_table)), values)
        self.written = time.monotonic()
