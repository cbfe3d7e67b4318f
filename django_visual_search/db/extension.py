"""The ``vector`` extension: created by our migration, and before any shop's migration that needs its types."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import CreateExtension
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router, transaction
from django.db.migrations.operations import AlterField
from pgvector.django import HalfVectorField

ADVICE = (
    "The PostgreSQL extension 'vector' (pgvector, 0.8.4 or later) is not in database {name!r} and this user may not or "
    "can't create it ({error}). Ask your database administrator to install pgvector on the server and to run, in that "
    "database: CREATE EXTENSION vector;  Then run migrate again."
)


class CreateVectorExtension(CreateExtension):
    """``CREATE EXTENSION vector`` unless it exists, with an error that says whom to ask if it fails."""

    def __init__(self, hints: Any = None) -> None:
        self.name = "vector"
        self.hints = hints or {}

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__qualname__, [], {}

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if not router.allow_migrate(schema_editor.connection.alias, app_label):
            return
        if schema_editor.collect_sql:
            schema_editor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        else:
            create_extension(schema_editor.connection)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Leave the extension: the shop's own columns use its types."""


def create_extension(connection: Any) -> None:
    """Create ``vector`` in this database unless it exists. Raises ImproperlyConfigured, which says what to do."""
    if connection.vendor != "postgresql" or extension_version(connection) is not None:
        return
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except DatabaseError as e:
        error = str(e).strip().splitlines()[0]
        raise ImproperlyConfigured(ADVICE.format(name=connection.settings_dict["NAME"], error=error)) from e


def extension_version(connection: Any) -> str | None:
    """Return the installed version of ``vector``, or None."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        row = cursor.fetchone()
    return row[0] if row else None


def before_migrate(*, using: str, plan: list[Any] | None = None, **kwargs: Any) -> None:
    """Receive ``pre_migrate``: a shop's app may sort before ours, and its migrations do not depend on ours."""
    forget_vectors_of(plan or [])
    if plan and router.allow_migrate(using, "django_visual_search"):
        create_extension(connections[using])


class AlterWidth(AlterField):
    """``AlterField`` of a vector: a change of width empties the vector and its key, and sweeps make them again."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Empty the columns if the width changes, then alter the column; backwards too."""
        before, after = (state.apps.get_model(app_label, self.model_name) for state in (from_state, to_state))
        key = f"{self.name}_key"
        widths = [model._meta.get_field(self.name).dimensions for model in (before, after)]
        has_key = key in {field.name for field in before._meta.local_fields}
        if has_key and widths[0] != widths[1] and router.allow_migrate_model(schema_editor.connection.alias, before):
            quote = schema_editor.quote_name
            vector, key = (quote(before._meta.get_field(name).column) for name in (self.name, key))
            schema_editor.execute(
                f"UPDATE {quote(before._meta.db_table)} SET {vector} = NULL, {key} = NULL WHERE {vector} IS NOT NULL"
            )
        super().database_forwards(app_label, schema_editor, from_state, to_state)


def forget_vectors_of(plan: list[Any]) -> None:
    """Let the migrations of a plan empty vector columns whose width they change."""
    for migration, _ in plan:
        migration.operations = [
            AlterWidth(operation.model_name, operation.name, operation.field, operation.preserve_default)
            if type(operation) is AlterField and isinstance(operation.field, HalfVectorField)
            else operation
            for operation in migration.operations
        ]
