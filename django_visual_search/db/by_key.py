"""Queries for rows with given primary keys, compiled once and run with many sets of keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections
from django.db.models import BooleanField, F, Func, QuerySet

from .statements import Answer, Statement, compile_query, execute_together

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
