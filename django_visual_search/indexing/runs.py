"""What became of pictures.

How far the latest sweep or reindex of a field is, written down for the admin's dashboard, sparingly.
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
class Report:
    """What became of pictures: counts, and why some have no vector."""

    done: int = 0
    skipped: int = 0
    """Current already, held by another process, or changed while they were worked on."""
    cleared: int = 0
    refused: int = 0
    failed: int = 0
    quarantined: int = 0
    reasons: Counter[str] = dataclass_field(default_factory=Counter)

    @property
    def moved(self) -> bool:
        """Whether anything was settled."""
        return bool(self.done or self.cleared or self.refused or self.failed or self.quarantined)

    def add(self, other: Report) -> None:
        """Add another report's counts."""
        for name in ("done", "skipped", "cleared", "refused", "failed", "quarantined"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)


WRITE_SECONDS = 2.0

# The latest to start keeps the row: a long sweep that a later one has overtaken says no more.
WRITE = """
INSERT INTO {table} AS known (label, kind, started_at, updated_at, finished_at, total, done, failed)
VALUES (%(label)s, %(kind)s, %(started)s, %(now)s, %(finished)s, %(total)s, %(done)s, %(failed)s)
ON CONFLICT (label, kind) DO UPDATE SET
    started_at = EXCLUDED.started_at, updated_at = EXCLUDED.updated_at, finished_at = EXCLUDED.finished_at,
    total = EXCLUDED.total, done = EXCLUDED.done, failed = EXCLUDED.failed
WHERE known.started_at <= EXCLUDED.started_at
"""


class Run:
    """One sweep or reindex of a field, by ``IndexingRun.Kind``; ``total`` pictures, where they were counted.

    At most one small statement in ``WRITE_SECONDS``, and one at the end. A run that is interrupted never finishes.
    """

    def __init__(self, field: EmbeddingField, kind: Any, total: int | None = None) -> None:
        self.field = field
        self.kind = kind
        self.total = total
        self.started = timezone.now()
        self.written = time.monotonic()

    def show(self, report: Report) -> None:
        """Write what has become of the pictures so far, if it is time."""
        if time.monotonic() - self.written >= WRITE_SECONDS:
            self.write(report)

    def finish(self, report: Report) -> None:
        self.write(report, finished=True)

    def write(self, report: Report, *, finished: bool = False) -> None:
        connection = connections[router.db_for_write(self.field.model)]
        now = timezone.now()
        values = {
            "label": self.field.label,
            "kind": self.kind,
            "started": self.started,
            "now": now,
            "finished": now if finished else None,
            "total": self.total,
            "done": report.done + report.cleared,
            "failed": report.refused + report.failed + report.quarantined,
        }
        with connection.cursor() as cursor:
            cursor.execute(WRITE.format(table=connection.ops.quote_name(IndexingRun._meta.db_table)), values)
        self.written = time.monotonic()
