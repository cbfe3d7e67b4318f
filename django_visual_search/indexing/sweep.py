"""Finds everything that is stale and embeds it: the truth behind the signals' fast path."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.db import connections, router

from ..conf import conf
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from .claims import quarantine_lost
from .pipeline import Report, embed
from .stale import pending


def pending_keys(field: EmbeddingField, *, page: int = 1000) -> Iterator[Any]:
    """Primary keys of pending rows in key order, read page by page, so that what is done meanwhile is not visited."""
    last = None
    while True:
        rows = pending(field).order_by("pk")
        if last is not None:
            rows = rows.filter(pk__gt=last)
        keys = list(rows.values_list("pk", flat=True)[:page])
        yield from keys
        if len(keys) < page:
            return
        last = keys[-1]


def sweep(field: EmbeddingField, *, seconds: float | None = None) -> Report:
    """Quarantine what killed its workers, forget attempts at rows that are gone, and embed what is pending.

    Stops after the batch in which ``seconds`` have passed. Safe to run at the same time in several processes: claims share the work.
    """
    report = Report(quarantined=quarantine_lost(field))
    forget_deleted(field)
    until = None if seconds is None else time.monotonic() + seconds

    def keys() -> Iterator[Any]:
        for key in pending_keys(field):
            if until is not None and time.monotonic() > until:
                return
            yield key

    for step in embed(field, keys()):
        report.add(step)
    return report


def forget_deleted(field: EmbeddingField) -> int:
    """Drop attempts whose row no longer exists, and attempts that a vector has since made needless."""
    connection = connections[router.db_for_write(field.model)]
    quote = connection.ops.quote_name
    opts = field.target_model._meta
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {quote(IndexingAttempt._meta.db_table)} AS held WHERE label = %s AND leased_until < clock_timestamp() "
            f"AND NOT EXISTS (SELECT 1 FROM {quote(opts.db_table)} AS target "
            f"WHERE target.{quote(opts.pk.column)} = held.object_id::{opts.pk.rel_db_type(connection)})",
            [field.label],
        )
        return int(cursor.rowcount)


def sweep_seconds() -> float:
    """How long one sweep may go on; the next one comes every ``SWEEP_SECONDS``."""
    return 10.0 * conf.SWEEP_SECONDS
