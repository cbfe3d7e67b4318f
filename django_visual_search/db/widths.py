"""Migrations that change the width of a vector column: PostgreSQL can't cast the vectors, so they go first.

Entry function: ``forget_vectors_of``, which ``extension.before_migrate`` calls. A shop's migration names pgvector's
field and Django's ``AlterField``, nothing of this app, so it is changed when it is about to run.
"""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.migrations.operations import AlterField
from pgvector.django import HalfVectorField


class AlterWidth(AlterField):
    """``AlterField`` of a vector with its key; where the width changes, both are emptied, and made again by sweeps."""

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
