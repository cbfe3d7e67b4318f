"""The SQL of a search: the nearest rows by the graph or one by one, each product's best, and what is read along."""

from __future__ import annotations

from typing import Any

from ..db.statements import Statement
from ..db.vectors import halfvec_text
from ..fields import EmbeddingField
from ..ranking.reading import Extras
from .planning import Plan
from .rows import RowReader

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
