"""The ANN index around bulk writes: building it once at the end is many times faster than feeding it row by row.

Entry functions: ``drop_indexes`` and ``build_indexes`` for a command that writes much, inside of ``reindexing``;
``rebuild_lost`` for the sweep, which builds an index that a killed command left dropped.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError, connections, router
from django.db import Error as DatabaseFailure
from django.utils import timezone
from pgvector.django import HnswIndex, IvfflatIndex

from ..conf import conf
from ..fields import EmbeddingField
from ..models import IndexingRun

# Below so many rows, or this share of the table, the index is fed: dropping it would slow every search down for little.
REBUILD_ROWS = 2000
REBUILD_SHARE = 0.2

LOST_HOURS = 24
"""How long after its command a dropped index is built by a sweep: one that is missing long after may be one that the
shop has declared since and not migrated yet."""

BUILD_TRIES = 5
DEADLOCK, ALREADY_EXISTS = "40P01", "42P07"  # SQLSTATE


def worth_rebuilding(changing: int, total: int) -> bool:
    """Return whether to drop the index, write ``changing`` of ``total`` rows, and build it again."""
    return changing >= REBUILD_ROWS and changing >= REBUILD_SHARE * total


def declared_indexes(field: EmbeddingField) -> list[Any]:
    """Return the ANN indexes of ``Meta.indexes`` on this field."""
    return [
        index
        for index in field.model._meta.indexes
        if isinstance(index, (HnswIndex, IvfflatIndex)) and field.name in index.fields
    ]


def missing_indexes(field: EmbeddingField) -> list[Any]:
    """Return the declared ANN indexes that the database does not have, or has half-built from an interrupted run."""
    valid = {name for name, is_valid in existing_indexes(field).items() if is_valid}
    return [index for index in declared_indexes(field) if index.name not in valid]


def existing_indexes(field: EmbeddingField) -> dict[str, bool]:
    """Return name -> whether it is valid, of all indexes of the field's table."""
    connection = _connection(field)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = %s::regclass",
            [connection.ops.quote_name(field.model._meta.db_table)],
        )
        return dict(cursor.fetchall())


@contextlib.contextmanager
def reindexing(field: EmbeddingField) -> Iterator[None]:
    """Keep sweeps from building this field's index while a command works on it.

    By a lock of the database session, which ends with the command however that ends. If a sweep is building, the
    command goes on without it: dropping an index waits for those who build.
    """
    with _advisory_lock(field, shared=True):
        yield


def drop_indexes(field: EmbeddingField) -> None:
    """Drop the ANN indexes; searches go on, by exact scans. Must not run in a transaction."""
    _await_builds(field)
    existing = existing_indexes(field)
    for index in declared_indexes(field):
        if index.name in existing:
            _drop(field, index.name)


def build_indexes(field: EmbeddingField) -> list[str]:
    """Build the declared ANN indexes that are missing, without locking the table, and return their names.

    Two builds of one table can meet in spite of the wait, and PostgreSQL ends one of them: then it's tried again.
    """
    built: list[str] = []
    for tries_left in reversed(range(BUILD_TRIES)):
        try:
            _await_builds(field)
            for index in missing_indexes(field):
                _build(field, index)
                built.append(index.name)
            break
        except DatabaseError as e:
            if getattr(e.__cause__, "sqlstate", None) not in (DEADLOCK, ALREADY_EXISTS) or not tries_left:
                raise
    return built


def rebuild_lost(field: EmbeddingField) -> list[str]:
    """Build the indexes that a command dropped and did not live to build; return their names. Not in a transaction.

    Safe to run at the same time in several processes: one of them builds, the others return.
    """
    connection = _connection(field)
    since = timezone.now() - datetime.timedelta(hours=LOST_HOURS)
    unfinished = IndexingRun.objects.using(connection.alias).filter(
        label=field.label, kind=IndexingRun.Kind.COMMAND, finished_at=None, updated_at__gte=since
    )
    if connection.in_atomic_block or not unfinished.exists() or not missing_indexes(field):
        return []
    with _advisory_lock(field) as alone:
        built = build_indexes(field) if alone else []
        if built:
            analyze(field)
        return built


def analyze(field: EmbeddingField) -> None:
    """Refresh the table's statistics, on which the search planner relies."""
    connection = _connection(field)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {connection.ops.quote_name(field.model._meta.db_table)}")


def _connection(field: EmbeddingField) -> Any:
    return connections[router.db_for_write(field.model)]


def _await_builds(field: EmbeddingField) -> None:
    """Wait while another session builds an index of this table, as a command's may even after that was killed."""
    connection = _connection(field)
    table = connection.ops.quote_name(field.model._meta.db_table)
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE relid = %s::regclass", [table])
            if cursor.fetchone() is None:
                return
        time.sleep(0.5)


def _build(field: EmbeddingField, index: Any) -> None:
    connection = _connection(field)
    if index.name in existing_indexes(field):  # invalid
        _drop(field, index.name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('maintenance_work_mem', %s, false)", [conf.MAINTENANCE_WORK_MEM])
    try:
        with connection.schema_editor(atomic=False) as editor:
            editor.add_index(field.model, index, concurrently=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET maintenance_work_mem")


def _drop(field: EmbeddingField, name: str) -> None:
    connection = _connection(field)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {connection.ops.quote_name(name)}")


@contextlib.contextmanager
def _advisory_lock(field: EmbeddingField, *, shared: bool = False) -> Iterator[bool]:
    """Yield whether this session has the field's lock.

    Never waits: whoever waited for an advisory lock would hold a snapshot, and concurrent builds wait for those.
    """
    connection = _connection(field)
    kind, name = "_shared" if shared else "", [f"django_visual_search: {field.label}"]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock{kind}(hashtextextended(%s, 0))", name)
        [held] = cursor.fetchone()
    try:
        yield held
    finally:
        if held:
            with contextlib.suppress(DatabaseFailure), connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_unlock{kind}(hashtextextended(%s, 0))", name)
