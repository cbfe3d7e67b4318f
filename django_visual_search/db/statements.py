"""Several SQL statements in one round trip, in one transaction.

Vectors as the text that pgvector reads.

Queries for rows with given primary keys, compiled once and run with many sets of keys.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from django.db import connections, transaction
from django.db.models import BooleanField, F, Func, QuerySet
from numpy.typing import NDArray

Statement = tuple[str, tuple[Any, ...]]
Answer = list[tuple[Any, ...]]


def compile_query(queryset: QuerySet[Any], using: str) -> Statement:
    """The SELECT of a queryset. Raises EmptyResultSet where Django knows that nothing matches."""
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
    """A vector as a halfvec literal; five digits name every half-precision number exactly."""
    bits = np.asarray(vector, np.float16).view(np.uint16)
    return f"[{b','.join(_texts()[bits].tolist()).decode()}]"


@functools.cache
def _texts() -> NDArray[np.bytes_]:
    """Every half-precision number as text, by its bits: 0.7 MB, six times as fast as formatting each number anew."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).tolist()
    return np.array((b"%.5g " * len(numbers) % tuple(numbers)).split())


KEYS = object()
"""Stands for the primary keys in a compiled statement's parameters."""


class _IsOneOf(Func):
    """``expression = ANY(keys)``: unlike ``__in``, one parameter however many keys there are."""

    output_field = BooleanField()

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        sql, params = compiler.compile(self.get_source_expressions()[0])
        return f"{sql} = ANY(%s)", [*params, KEYS]


class ByKey:
    """A query for those of its rows that have given primary keys."""

    def __init__(self, rows: QuerySet[Any], *columns: str) -> None:
        self.pk = rows.model._meta.pk
        self.connection = connections[rows.db]
        self.sql, self.params = compile_query(rows.filter(_IsOneOf(F("pk"))).values_list(*columns), rows.db)

    def statement(self, keys: Iterable[Any]) -> Statement:
        """``keys``: as the model has them, or as text."""
        wanted = [self.pk.get_db_prep_value(self.pk.to_python(key), self.connection) for key in keys]
        return self.sql, tuple(wanted if param is KEYS else param for param in self.params)

    def rows(self, keys: Iterable[Any]) -> Answer:
        return execute_together(self.connection, [self.statement(keys)])[0]
