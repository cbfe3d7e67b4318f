"""The nearest rows to a vector: plans, then scans, and never comes back short."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, router
from django.db.models import F, QuerySet, Value
from pgvector.django import CosineDistance, L2Distance, MaxInnerProduct

from .candidates import candidates
from .fields import EmbeddingField
from .planning import Plan, facts_of, make_plan
from .rows import RowReader
from .statements import Statement, compile_query, execute_together

DISTANCES = {"cosine": CosineDistance, "l2": L2Distance, "ip": MaxInnerProduct}


@dataclass(frozen=True)
class Neighbour:
    """One row near the query; ``distance`` is pgvector's for the field's metric."""

    product_pk: Any
    row: Any
    distance: float


def nearest(
    field: EmbeddingField,
    vector: Any,
    extractor_key: str,
    *,
    limit: int,
    within: QuerySet[Any],
    exclude: Any = None,
) -> tuple[list[Neighbour], bool]:
    """The ``limit`` products nearest to ``vector`` (its best row each), nearest first, and whether they are exact.

    If ``limit`` products are there under the filter, that many come back. Two round trips.
    """
    using = router.db_for_read(field.model)
    connection = connections[using]
    rows, filtered = candidates(field, extractor_key, within, exclude)
    try:
        plan = make_plan(limit, facts_of(field, connection, rows, filtered), grouped=field.product is not None)
        statement = _statement(field, rows, vector, limit, plan, using)
    except EmptyResultSet:
        return [], True
    reader = RowReader(field, connection)
    found = execute_together(connection, plan.around(reader.joined(statement)))[plan.position]
    complete = [values for values in found if values[2]]
    neighbours = [Neighbour(values[0], reader.read(values[3:]), values[1]) for values in (complete or found)]
    neighbours.sort(key=lambda neighbour: neighbour.distance)
    return neighbours[:limit], plan.exact or bool(complete) or not found


def _statement(
    field: EmbeddingField, rows: QuerySet[Any], vector: Any, limit: int, plan: Plan, using: str
) -> Statement:
    """SQL giving (row's key, product's key, distance, whether the exact scan found it), at most ``limit`` of each kind."""
    distance = DISTANCES[field.metric](F(field.name), vector)
    columns = ("pk", field.product or "pk", "visual_distance")
    # Adding zero keeps the planner from using the ANN index.
    exact_rows = rows.annotate(visual_distance=distance + Value(0.0)).values_list(*columns)
    exact_sql, exact_params = compile_query(exact_rows, using)
    nearest_first = f"ORDER BY distance, pk LIMIT {limit:d}"
    if plan.exact:
        sql = f"WITH matching (pk, product, distance) AS ({exact_sql}) SELECT *, true FROM {_best(field, 'matching')} {nearest_first}"
        return sql, exact_params
    ann_rows = rows.annotate(visual_distance=distance).order_by("visual_distance").values_list(*columns)[: plan.fetch]
    ann_sql, ann_params = compile_query(ann_rows, using)
    # The second half runs only if the graph came back short: PostgreSQL evaluates the count first, as a one-time filter.
    sql = (
        f"WITH scanned (pk, product, distance) AS MATERIALIZED ({ann_sql}), "
        f"best AS MATERIALIZED (SELECT * FROM {_best(field, 'scanned')} {nearest_first}), "
        f"matching (pk, product, distance) AS ({exact_sql}) "
        "SELECT pk, product, distance, false FROM best UNION ALL "
        f"(SELECT pk, product, distance, true FROM {_best(field, 'matching')} "
        f"WHERE (SELECT count(*) FROM best) < {limit:d} {nearest_first})"
    )
    return sql, (*ann_params, *exact_params)


def _best(field: EmbeddingField, name: str) -> str:
    """Each product's nearest row, where a product can have several."""
    if field.product is None:
        return name
    return f"(SELECT DISTINCT ON (product) * FROM {name} ORDER BY product, distance, pk) AS grouped_{name}"


def similarity(field: EmbeddingField, distance: float) -> float:
    """The cosine (-1..1), 1 / (1 + d) for l2 (0..1, the article's score), or the inner product."""
    if math.isnan(distance):
        return -1.0
    if field.metric == "l2":
        return 1 / (1 + distance)
    return max(-1.0, min(1.0, 1 - distance)) if field.metric == "cosine" else -distance


