"""The nearest rows to a vector: plans, then scans, and never comes back short."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, router
from django.db.models import QuerySet

from .candidates import candidates, embedded, product_pk
from .fields import EmbeddingField
from .planning import Plan, facts_of, make_plan
from .rows import RowReader
from .statements import Statement, compile_query, execute_together
from .vectors import halfvec_text

OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}


@dataclass(frozen=True)
class Neighbour:
    """One row near the query; ``distance`` is pgvector's for the field's metric."""

    product_pk: Any
    row: Any
    distance: float


@dataclass(frozen=True)
class Query:
    """What to look for: a vector and its space, or ``stored``, rows of (vector, key) of which the first is read."""

    vector: Any = None
    extractor_key: str = ""
    stored: QuerySet[Any] | None = None


def nearest(
    field: EmbeddingField, query: Query, *, limit: int, within: QuerySet[Any], exclude: Any = None
) -> tuple[list[Neighbour], bool, str]:
    """The ``limit`` nearest products (the best row of each), nearest first; whether they are exact; the vector space.

    If ``limit`` products are there under the filter, that many come back. Two round trips at most. The vector space
    is empty where the query turns out to have no vector.
    """
    using = router.db_for_read(field.model)
    connection = connections[using]
    try:
        rows, filtered = candidates(field, within)
        first = [] if query.stored is None else [compile_query(query.stored, using)]
        facts, read = facts_of(field, connection, rows, filtered, first)
        if read:
            query = _read_query(field, read[0], connection)
        if query.vector is None:
            return [], True, ""
        rows = embedded(field, rows, query.extractor_key, exclude)
        plan = make_plan(limit, facts, grouped=field.product is not None)
        statement = _statement(field, rows, query.vector, limit, plan, using)
    except EmptyResultSet:
        return [], True, query.extractor_key
    reader = RowReader(field, connection)
    found = execute_together(connection, plan.around(reader.joined(statement)))[plan.position]
    complete = [values for values in found if values[2]]
    neighbours = [Neighbour(values[0], reader.read(values[3:]), values[1]) for values in (complete or found)]
    neighbours.sort(key=lambda neighbour: neighbour.distance)
    return neighbours[:limit], plan.exact or bool(complete) or not found, query.extractor_key


def _read_query(field: EmbeddingField, rows: list[tuple[Any, ...]], connection: Any) -> Query:
    for vector, key in rows:
        return Query(field.from_db_value(vector, None, connection), key.partition(":")[0])
    return Query()


def _statement(
    field: EmbeddingField, rows: QuerySet[Any], vector: Any, limit: int, plan: Plan, using: str
) -> Statement:
    """SQL giving (row's key, product's key, distance, whether the exact scan found it), ``limit`` of each kind."""
    allowed, params = compile_query(rows.values_list("pk", product_pk(field), field.name), using)
    query = halfvec_text(vector)
    distance = f"vector {OPERATORS[field.metric]} %s::halfvec"
    nearest_first = f"ORDER BY distance, pk LIMIT {limit:d}"
    # NOT MATERIALIZED: PostgreSQL plans each use of the filter by itself.
    sql = f"WITH allowed (pk, product, vector) AS NOT MATERIALIZED ({allowed}), "
    # Adding zero keeps the planner from using the ANN index.
    sql += f"matching AS NOT MATERIALIZED (SELECT pk, product, ({distance}) + 0 AS distance FROM allowed)"
    if plan.exact:
        sql += f" SELECT pk, product, distance, true FROM {_best(field, 'matching')} {nearest_first}"
        return sql, (*params, query)
    # The last part runs only if the graph came back short: PostgreSQL evaluates the count first, as a one-time filter.
    sql += (
        f", scanned AS MATERIALIZED (SELECT pk, product, {distance} AS distance FROM allowed "
        f"ORDER BY {distance} LIMIT {plan.fetch:d}), "
        f"best AS MATERIALIZED (SELECT pk, product, distance FROM {_best(field, 'scanned')} {nearest_first}) "
        "SELECT pk, product, distance, false FROM best UNION ALL "
        f"(SELECT pk, product, distance, true FROM {_best(field, 'matching')} "
        f"WHERE (SELECT count(*) FROM best) < {limit:d} {nearest_first})"
    )
    return sql, (*params, query, query, query)


def _best(field: EmbeddingField, name: str) -> str:
    """Each product's nearest row, where a product can have several."""
    if field.product is None:
        return name
    columns = "DISTINCT ON (product) pk, product, distance"
    return f"(SELECT {columns} FROM {name} ORDER BY product, distance, pk) AS grouped_{name}"


def similarity(field: EmbeddingField, distance: float) -> float:
    """The cosine (-1..1), 1 / (1 + d) for l2 (0..1, the article's score), or the inner product."""
    if math.isnan(distance):
        return -1.0
    if field.metric == "l2":
        return 1 / (1 + distance)
    return max(-1.0, min(1.0, 1 - distance)) if field.metric == "cosine" else -distance
