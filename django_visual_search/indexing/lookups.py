"""What a batch asks of the ORM, compiled once: Django takes longer over such a query than PostgreSQL to answer it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, router
from django.db.models import BooleanField, Exists, F, Func, QuerySet

from ..fields import EmbeddingField
from ..statements import Answer, Statement, compile_query, execute_together
from .stale import attempts_at, stale, targets

KEYS = object()
"""Stands for the primary keys in a compiled statement's parameters."""

LOCK = "FOR NO KEY UPDATE SKIP LOCKED"
"""Appended to the query for ``targets``: against changes of the picture, wherever in a chain of tables it lies; foreign
keys to the rows stay possible."""


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


class Lookups:
    """The queries of one run over a field."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.connection = connections[router.db_for_write(field.model)]
        rows = stale(field).annotate(visual_tried=Exists(attempts_at(field).filter(attempts__gt=0)))
        self.stale = ByKey(rows, "pk", "visual_image", "visual_wanted", "visual_tried")
        """(key, image, wanted vector's key, whether an earlier attempt at that began and did not finish)"""
        self.wanted = ByKey(stale(field), "pk", "visual_wanted")
        """(key, wanted vector's key)"""
        linked = [field.link.target_field.attname] if field.link else []
        self.targets = ByKey(targets(field).order_by("pk"), "pk", "visual_image", *linked)
        """(key, image), stale or not, and what a companion's link refers to, where there are companions"""
