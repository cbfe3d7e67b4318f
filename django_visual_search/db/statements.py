"""Several SQL statements in one round trip, in one transaction; and vectors as the text that pgvector reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import QuerySet

Statement = tuple[str, tuple[Any, ...]]
Answer = list[tuple[Any, ...]]


def compile_query(queryset: QuerySet[Any], using: str) -> Statement:
    """Return the SELECT of a queryset. Raises EmptyResultSet where Django knows that nothing matches."""
    sql, params = queryset.query.get_compiler(using).as_sql()
    return sql, tuple(params)


def execute_together(connection: Any, statements: list[Statement]) -> list[Answer]:
    """Run the statements in order and return each one's rows.

    PostgreSQL runs statements sent as one message in one transaction, which is what lets ``set_config(..., true)``
    reach from one to the next without BEGIN and COMMIT. With server-side binding a message holds one statement, so
    there it's a transaction.
    """
    if connection.settings_dict["OPTIONS"].get("server_side_binding"):
        with transaction.atomic(using=connection.alias):
            return [_run(connection, [statement])[0] for statement in statements]
    return _run(connection, statements)


def _run(connection: Any, statements: list[Statement]) -> list[Answer]:
    sql = ";\n".join(sql for sql, _ in statements)
    with connection.cursor() as cursor:
        cursor.execute(sql, tuple(param for _, params in statements for param in params))
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall())
    return results


def halfvec_text(vector: Any) -> str:
    """Return a vector as a halfvec literal; five digits name every half-precision number exactly."""
    numbers = np.asarray(vector, np.float16).tolist()
    return f"[{','.join(['%.5g'] * len(numbers))}]" % tuple(numbers)
