"""System checks of a database: the extension ``vector`` and the ANN indexes."""

from __future__ import annotations

import re
from typing import Any

from django.core import checks
from django.db import DatabaseError, connections

from ..db.extension import ADVICE, extension_version
from ..fields import EmbeddingField
from ..fields.checks import problem
from ..indexing.ann import missing_indexes
from ..models import IndexingAttempt

OLDEST = "0.8.4"
"""Earlier versions can corrupt an HNSW index during VACUUM."""


def check_extension(alias: str) -> list[checks.CheckMessage]:
    """Warn where ``vector`` is too old, or absent and ``migrate`` won't create it."""
    connection = connections[alias]
    try:
        installed, available = extension_version(connection), _available_version(connection)
        migrated = IndexingAttempt._meta.db_table in connection.introspection.table_names()
    except DatabaseError:  # Django reports what is wrong with the connection
        return []
    if installed is None and (available is None or migrated):
        error = "the server does not have it" if available is None else "it is not there although migrate has run"
        advice = ADVICE.format(name=connection.settings_dict["NAME"], error=error)
        message = f"The extension 'vector' is not in database {alias!r}."
        return [problem("W003", message, advice)]
    version = installed or available or ""
    if _parts(version) >= _parts(OLDEST):
        return []
    message = f"pgvector {version} of database {alias!r} is older than {OLDEST}: its vacuum can corrupt HNSW indexes."
    hint = "Install a current pgvector on the server and run in this database: ALTER EXTENSION vector UPDATE;"
    return [problem("W004", message, hint)]


def _available_version(connection: Any) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
        row = cursor.fetchone()
    return row[0] if row else None


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def check_indexes(field: EmbeddingField, alias: str) -> list[checks.CheckMessage]:
    """Warn about declared ANN indexes that are absent or invalid, if the column exists."""
    connection = connections[alias]
    try:
        missing = missing_indexes(field) if _has_column(connection, field) else []
    except DatabaseError:
        return []
    hint = (
        f"Run: python manage.py migrate  and then: python manage.py reindex_embeddings {field.label}  "
        "(while that runs, the index may be absent)."
    )
    text = "Index '{}' is absent from database {!r}, or invalid: every search reads the whole table."
    return [problem("W005", text.format(index.name, alias), hint, field) for index in missing]


def _has_column(connection: Any, field: EmbeddingField) -> bool:
    table = connection.ops.quote_name(field.model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped",
            [table, field.column],
        )
        return cursor.fetchone() is not None
