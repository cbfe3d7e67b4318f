"""An ANN index that a killed reindex left dropped is built again by the next sweep, once nobody reindexes."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connections, router
from django.utils import timezone

from ..fields import EmbeddingField
from ..models import IndexingRun
from . import ann

# An index that is missing long after may be one that the shop has declared since and not migrated yet.
LOST_HOURS = 24


@contextlib.contextmanager
def reindexing(field: EmbeddingField) -> Iterator[None]:
    """While a command works on this field, no sweep builds its index.

    By a lock of the database session, which ends with the command however that ends. If a sweep is building, the
    command goes on without it: dropping an index waits for those who build.
    """
    connection = connections[router.db_for_write(field.model)]
    with _locked(connection, field, "_shared"):
        yield


def rebuild_lost(field: EmbeddingField) -> list[str]:
    """Build the indexes that a command dropped and did not live to build; their names. Not in a transaction.

    Safe to run at the same time in several processes: one of them builds, the others return.
    """
    connection = connections[router.db_for_write(field.model)]
    since = timezone.now() - datetime.timedelta(hours=LOST_HOURS)
    unfinished = IndexingRun.objects.using(connection.alias).filter(
        label=field.label, kind=IndexingRun.Kind.COMMAND, finished_at=None, updated_at__gte=since
    )
    if connection.in_atomic_block or not unfinished.exists() or not ann.missing_indexes(field):
        return []
    with _locked(connection, field, "") as alone:
        built = ann.build_indexes(field) if alone else []
        if built:
            ann.analyze(field)
        return built


@contextlib.contextmanager
def _locked(connection: Any, field: EmbeddingField, shared: str) -> Iterator[bool]:
    """Never waits: whoever waited for an advisory lock would hold a snapshot, and concurrent builds wait for those."""
    name = [f"django_visual_search: {field.label}"]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock{shared}(hashtextextended(%s, 0))", name)
        [held] = cursor.fetchone()
    try:
        yield held
    finally:
        if held:
            with contextlib.suppress(DatabaseFailure), connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_unlock{shared}(hashtextextended(%s, 0))", name)
