"""The SQL of a search: the nearest rows by the graph or one by one, each product's best, and what is read along.

Reads the rows that own the vectors along with the distances: naming the picture that matched costs no query.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from django.db import connections, models

from ..db.statements import Statement, halfvec_text
from ..fields import EmbeddingField
from ..ranking.reading import Extras
from .planning import Plan

OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}

Columns = tuple[str, ...]

# Which part of a statement found a row: the graph, the exact scan, or the one for products that a pin names
SCANNED, COMPLETE, PINNED = 0, 1, 2


def joined(statement: Statement, reader: RowReader, extras: Extras, *, read: Columns = ()) -> Statement:
    """SQL giving (row's key, product's key, distance, which part found it, *extras, *columns of the rows).

    ``read``: those columns, where the statement itself gives them.
    """
    sql, params = statement
    joins, more = extras.joins()
    columns = [f"hits.{name}" for name in read] or reader.columns()
    names = ["hits.pk", "hits.product", "hits.distance", "hits.part", *extras.columns(), *columns]
    hits = f"hits (pk, product, distance, part{_further(read)})"
    rows = "" if read else reader.joins()
    return f"SELECT {', '.join(names)} FROM ({sql}) AS {hits}{rows}{joins}", (*params, *more)


def graph(field: EmbeddingField, rows: Statement, vector: Any, limit: int, read: Columns) -> Statement:
    """SQL giving (row's key, product's key, distance, which part found it, *read) of what the graph finds.

    ``rows``: (row's key, product's key, vector, *read) of those that may be found.
    """
    allowed, params = rows
    distance = f"vector {OPERATORS[field.metric]} %s::halfvec"
    return (
        f"SELECT pk, product, {distance} AS distance, {SCANNED}{_further(read)} "
        f"FROM ({allowed}) AS allowed ORDER BY distance LIMIT {limit:d}"
    ), (halfvec_text(vector), *params)


def scan(field: EmbeddingField, rows: Statement, vector: Any, limit: int, plan: Plan, pins: list[Any]) -> Statement:
    """SQL giving (row's key, product's key, distance, which part found it), ``limit`` of each part but the pins.

    By the plan, and exactly after all where the graph comes back short. ``rows``: (row's key, product's key, vector) of
    those that may be found.
    """
    allowed, params = rows
    # Named once: each copy of its text would take PostgreSQL a twentieth of a millisecond to read.
    asked = "WITH asked AS MATERIALIZED (SELECT %s::halfvec AS vector), "
    params = (halfvec_text(vector), *params)
    distance = f"vector {OPERATORS[field.metric]} (SELECT vector FROM asked)"
    nearest_first = f"ORDER BY distance, pk LIMIT {limit:d}"
    # NOT MATERIALIZED: PostgreSQL plans each use of the filter by itself.
    sql = f"{asked}allowed (pk, product, vector) AS NOT MATERIALIZED ({allowed}), "
    # Adding zero keeps the planner from using the ANN index.
    sql += f"matching AS NOT MATERIALIZED (SELECT pk, product, ({distance}) + 0 AS distance FROM allowed)"
    last = ""
    if pins:
        only = "(SELECT * FROM matching WHERE product = ANY(%s))"
        last = f" UNION ALL SELECT pk, product, distance, {PINNED} FROM {_best(field, f'{only} AS named')}"
        params = (*params, pins)
    if plan.exact:
        sql += f" (SELECT pk, product, distance, {COMPLETE} FROM {_best(field, 'matching')} {nearest_first}){last}"
        return sql, params
    # The last part runs only if the graph came back short: PostgreSQL evaluates the count first, as a one-time filter.
    sql += (
        f", scanned AS MATERIALIZED (SELECT pk, product, {distance} AS distance FROM allowed "
        f"ORDER BY {distance} LIMIT {plan.fetch:d}), "
        f"best AS MATERIALIZED (SELECT pk, product, distance FROM {_best(field, 'scanned')} {nearest_first}) "
        f"SELECT pk, product, distance, {SCANNED} FROM best UNION ALL "
        f"(SELECT pk, product, distance, {COMPLETE} FROM {_best(field, 'matching')} "
        f"WHERE (SELECT count(*) FROM best) < {limit:d} {nearest_first}){last}"
    )
    return sql, params


def _further(read: Columns) -> str:
    return "".join(f", {name}" for name in read)


def _best(field: EmbeddingField, source: str) -> str:
    """Each product's nearest row, where a product can have several."""
    if field.product is None:
        return source
    columns = "DISTINCT ON (product) pk, product, distance"
    return f"(SELECT {columns} FROM {source} ORDER BY product, distance, pk) AS grouped"


class RowReader:
    """Joins the owning rows (without their vectors) and the pictures they link to onto a statement's hits.

    Where the row is the product itself it is read as ``model``, if given; if not, it is read with the product instead,
    and ``read`` returns None.
    """

    def __init__(self, field: EmbeddingField, connection: Any, model: type[models.Model] | None = None) -> None:
        self.field = field
        self.connection = connection
        self.model = model or field.model
        self.wanted = field.product is not None or model is not None
        target = field.target_model
        # A multi-table child's columns lie in two tables; that one is left to load on access.
        flat = field.link is not None and not target._meta.parents
        self.own = columns_of(field.model, field, connection.alias) if self.wanted else _NONE
        self.linked = columns_of(target, None, connection.alias) if self.wanted and flat else _NONE

    def columns(self) -> list[str]:
        return [f"owner.{name}" for name in self.own.quoted] + [f"linked.{name}" for name in self.linked.quoted]

    def joins(self) -> str:
        """SQL that joins the rows to ``hits``, by its column ``pk``."""
        if not self.wanted:
            return ""
        quote = self.connection.ops.quote_name
        opts = self.field.model._meta
        joins = f" JOIN {quote(opts.db_table)} AS owner ON owner.{quote(opts.pk.column)} = hits.pk"
        if self.linked.quoted:
            link = self.field.link
            assert link is not None
            target = link.related_model._meta
            remote = link.target_field.column
            joins += f" JOIN {quote(target.db_table)} AS linked ON linked.{quote(remote)} = owner.{quote(link.column)}"
        return joins

    def read(self, values: tuple[Any, ...]) -> models.Model | None:
        """The owning row, its vector deferred and its picture's row set."""
        if not self.wanted:
            return None
        row = self._instance(self.model, self.own, values[: len(self.own.quoted)])
        if self.linked.quoted:
            assert self.field.link is not None
            linked = self._instance(self.field.link.related_model, self.linked, values[len(self.own.quoted) :])
            setattr(row, self.field.link.name, linked)
        return row

    def _instance(self, model: type[models.Model], columns: _Columns, values: tuple[Any, ...]) -> models.Model:
        row = list(values)
        for i, column, convert in columns.converted:
            row[i] = convert(row[i], column, self.connection)
        return model.from_db(self.connection.alias, columns.attnames, row)


class _Columns(NamedTuple):
    """Columns of a table, and what makes a model's attributes of their values."""

    quoted: tuple[str, ...]
    attnames: tuple[str, ...]
    converted: tuple[tuple[int, Any, Any], ...]
    """(place, column, converter) for those values that are not taken as they come"""


_NONE = _Columns((), (), ())


@functools.cache
def columns_of(model: type[models.Model], without: EmbeddingField | None, using: str) -> _Columns:
    """The columns of a model's own table but that of one field.

    Known once asked: Django takes as long to say the converters as to make three rows.
    """
    connection = connections[using]
    fields = [field for field in model._meta.local_concrete_fields if field is not without]
    converted = []
    for i, field in enumerate(fields):
        column = field.get_col(model._meta.db_table)
        for convert in connection.ops.get_db_converters(column) + field.get_db_converters(connection):
            converted.append((i, column, convert))
    quote = connection.ops.quote_name
    return _Columns(
        tuple(quote(field.column) for field in fields), tuple(field.attname for field in fields), tuple(converted)
    )
