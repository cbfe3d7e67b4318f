"""The ANN index around bulk writes: building it once at the end is many times faster than feeding it row by row.

Entry functions: ``drop_indexes`` and ``build_indexes`` for a command that writes much, inside of ``reindexing``;
``rebuild_lost`` for the sweep, which builds an index that a killed command left dropped.

Nothing is kept in the database session, which a transaction pooler gives to others a moment later: a running command
shows by its IndexingRun, whose ``updated_at`` it renews.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
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

logger = logging.getLogger("django_visual_search")

# Below this number of rows, or share of the table, the index is fed: dropping it would slow searches for no gain.
REBUILD_ROWS = 2000
REBUILD_SHARE = 0.2

LOST_HOURS = 24
"""Time after its command in which a sweep may build a dropped index. Later, a missing index may be one that the shop
has declared and not migrated yet."""

BUILD_TRIES = 5
SHORTEST_RENEWAL = 0.05  # seconds
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
    return {name: is_valid for name, is_valid, _ in _indexes(field)}


def _indexes(field: EmbeddingField) -> list[tuple[str, bool, str]]:
    """Return (name, whether it is valid, name for SQL, with its schema where that is needed)."""
    with _connection(field).cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, i.indisvalid, c.oid::regclass::text FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s::regclass",
            [_table(field)],
        )
        return list(cursor.fetchall())


def is_partitioned(field: EmbeddingField) -> bool:
    """Return whether the table is divided into partitions: PostgreSQL can't build or drop its indexes concurrently."""
    with _connection(field).cursor() as cursor:
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", [_table(field)])
        return bool(cursor.fetchone()[0])


@contextlib.contextmanager
def reindexing(field: EmbeddingField) -> Iterator[None]:
    """Keep sweeps from building this field's index while a command works on it, however long its steps take.

    A thread renews the command's run, every third of ``LEASE_SECONDS``. If a sweep is building, the command goes on
    without it: dropping an index waits for those who build.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(field, ended), name="visual-search-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _renew(field: EmbeddingField, ended: threading.Event) -> None:
    while not ended.wait(max(SHORTEST_RENEWAL, conf.LEASE_SECONDS / 3)):
        try:
            _unfinished(field).update(updated_at=timezone.now())
        except DatabaseFailure:
            logger.debug("visual search: the run over %s was not renewed", field.label, exc_info=True)
        finally:
            connections.close_all()


def _unfinished(field: EmbeddingField) -> Any:
    """Return the run of an unfinished command on this field, or None."""
    runs = IndexingRun.objects.using(_connection(field).alias)
    return runs.filter(label=field.label, kind=IndexingRun.Kind.COMMAND, finished_at=None)


def drop_indexes(field: EmbeddingField) -> None:
    """Drop the ANN indexes; searches go on, by exact scans. Must not run in a transaction.

    Those of a partitioned table stay, and are fed.
    """
    if is_partitioned(field):
        return
    _await_builds(field)
    declared = {index.name for index in declared_indexes(field)}
    for name, _, qualified in _indexes(field):
        if name in declared:
            _drop(field, qualified)


def build_indexes(field: EmbeddingField) -> list[str]:
    """Build the declared ANN indexes that are missing, without locking the table, and return their names.

    On a partitioned table that can't be done without locking it, so it is left to the shop's migrations.
    Two builds of one table can meet in spite of the wait, and PostgreSQL ends one of them: then it's tried again.
    """
    built: list[str] = []
    if is_partitioned(field):
        return built
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
    now = timezone.now()
    lost = _unfinished(field).filter(
        updated_at__gte=now - datetime.timedelta(hours=LOST_HOURS),
        updated_at__lte=now - datetime.timedelta(seconds=conf.LEASE_SECONDS),
    )
    if _connection(field).in_atomic_block or not lost.exists() or not missing_indexes(field) or _is_building(field):
        return []
    if not lost.update(updated_at=now):  # another process was first
        return []
    with reindexing(field):
        built = build_indexes(field)
        if built:
            analyze(field)
        return built


def analyze(field: EmbeddingField) -> None:
    """Refresh the table's statistics, on which the search planner relies."""
    with _connection(field).cursor() as cursor:
        cursor.execute(f"ANALYZE {_table(field)}")


def _connection(field: EmbeddingField) -> Any:
    return connections[router.db_for_write(field.model)]


def _await_builds(field: EmbeddingField) -> None:
    """Wait while another session builds an index of this table, as a command's may even after that was killed."""
    while _is_building(field):
        time.sleep(0.5)


def _is_building(field: EmbeddingField) -> bool:
    with _connection(field).cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE relid = %s::regclass", [_table(field)])
        return cursor.fetchone() is not None


def _build(field: EmbeddingField, index: Any) -> None:
    for name, _, qualified in _indexes(field):
        if name == index.name:  # invalid
            _drop(field, qualified)
    connection = _connection(field)
    with _memory_for_builds(connection), connection.schema_editor(atomic=False) as editor:
        editor.add_index(field.model, index, concurrently=True)


def _drop(field: EmbeddingField, qualified: str) -> None:
    with _connection(field).cursor() as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {qualified}")


@contextlib.contextmanager
def _memory_for_builds(connection: Any) -> Iterator[None]:
    """Set ``maintenance_work_mem`` for this session, as no transaction may be around what builds concurrently.

    Not behind a pooler, whose sessions others use in between: there the server's own value counts.
    """
    if is_pooled(connection):
        logger.warning(
            "visual search: behind a connection pooler, an index is built with the server's maintenance_work_mem: "
            "give commands a direct connection, or set it for their role."
        )
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('maintenance_work_mem', %s, false)", [conf.MAINTENANCE_WORK_MEM])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET maintenance_work_mem")


def is_pooled(connection: Any) -> bool:
    """Return whether a pooler is between: it has given the client another process number than the server's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    return bool(pid != connection.connection.info.backend_pid)


def _table(field: EmbeddingField) -> str:
    return str(_connection(field).ops.quote_name(field.model._meta.db_table))
