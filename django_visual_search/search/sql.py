"""The one statement of a search: the nearest rows, each product's best, with columns for rankers and pages.

Entry function: ``search_statement``. A *part* of the statement finds rows: the scan of the graph, the exact scan, or
the one for products that a pin names.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence, Set
from typing import Any

from django.db import models

from ..db.rows import raw_key
from ..db.statements import Statement, halfvec_text
from ..fields import EmbeddingField
from ..fields.keys import embedding_key
from ..ranking.reading import boosts_by_attribute, hidden_sql, ranking_columns, ranking_joins
from ..ranking.types import Rule
from .planning import Plan
from .query import Query

OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}

SCANNED, COMPLETE, PINNED = 0, 1, 2
"""Parts: of the graph, exact, and for pins."""

HITS = ("space", "part", "pk", "product", "distance")
"""The columns of the statement that come first; ``space`` is the position of the query in the list of them."""


def search_statement(
    field: EmbeddingField,
    connection: Any,
    rows: Statement,
    queries: Sequence[Query],
    plan: Plan,
    *,
    limit: int,
    exclude: Any = None,
    pins: Sequence[Any] = (),
    needs: Set[str] = frozenset(),
    query_id: str = "",
    rules: Sequence[Rule] = (),
    reserve: bool = False,
) -> Statement:
    """Return SQL giving (*HITS, *ranking_columns, *owner_columns), ``limit`` products for each part of each query.

    ``rows``: the candidates, as ``candidates.listed`` gives them. ``exclude``: the key of a product to leave out.
    ``rules``: the current ones; those by attribute leave out products and mark the hits that they match.
    ``reserve``: whether the exact scan follows where the graph comes back short. Queries in several spaces are one
    statement, so that a row which moves from one to the other meanwhile is found once, in either.
    """
    hidden, boosts = hidden_sql(field, rules, connection.alias), boosts_by_attribute(rules)
    scans: list[str] = []
    params: tuple[Any, ...] = ()
    for space, query in enumerate(queries):
        allowed = _in_space(field, connection, rows, query.extractor_key, exclude, hidden)
        sql, more = _scan(field, allowed, query.vector, limit, plan, pins, reserve, connection.alias)
        scans.append(f"SELECT {space}, found.* FROM ({sql}) AS found (part, pk, product, distance)")
        params += more
    owner_names, owner_joins = _owners(field, connection)
    joins, more = ranking_joins(field, needs, query_id, connection, boosts)
    columns = [*(f"hits.{name}" for name in HITS), *ranking_columns(field, needs, connection, boosts), *owner_names]
    hits = f"({' UNION ALL '.join(scans)}) AS hits ({', '.join(HITS)})"
    return f"SELECT {', '.join(columns)} FROM {hits}{owner_joins}{joins}", (*params, *more)


def _in_space(
    field: EmbeddingField,
    connection: Any,
    rows: Statement,
    extractor_key: str,
    exclude: Any,
    hidden: Statement | None,
) -> Statement:
    """Return SQL for the candidates with a vector of that space, whose product is neither hidden nor ``exclude``."""
    sql, params = rows
    # PostgreSQL pulls the inner query up, as if its conditions were written here.
    sql = (
        f"SELECT pk, product, vector FROM ({sql}) AS listed (pk, product, vector, key) "
        "WHERE vector IS NOT NULL AND key LIKE %s"
    )
    params = (*params, f"{connection.ops.prep_for_like_query(embedding_key(extractor_key, ''))}%")
    if hidden is not None:
        sql, params = f"{sql} AND NOT {hidden[0]}", (*params, *hidden[1])
    if exclude is None:
        return sql, params
    return f"{sql} AND product <> %s", (*params, raw_key(field.product_model, exclude, connection.alias))


def _scan(
    field: EmbeddingField,
    rows: Statement,
    vector: Any,
    limit: int,
    plan: Plan,
    pins: Sequence[Any],
    reserve: bool,
    using: str,
) -> Statement:
    """Return SQL for (part, row's key, product's key, distance). ``rows``: (row's key, product's key, vector)."""
    allowed, params = rows
    distance = f"vector {OPERATORS[field.metric]} (SELECT vector FROM query)"
    nearest_first = f"ORDER BY distance, pk LIMIT {limit:d}"
    exactly = f"SELECT {COMPLETE}, pk, product, distance FROM {_best(field, 'matching')}"
    tables = [
        # Named once: each copy of its text would take PostgreSQL a twentieth of a millisecond to read.
        "query AS MATERIALIZED (SELECT %s::halfvec AS vector)",
        # NOT MATERIALIZED: PostgreSQL plans each use of the filter by itself.
        f"allowed (pk, product, vector) AS NOT MATERIALIZED ({allowed})",
        # Adding zero keeps the planner from using the ANN index.
        f"matching AS NOT MATERIALIZED (SELECT pk, product, ({distance}) + 0 AS distance FROM allowed)",
    ]
    params = (halfvec_text(vector), *params)
    if plan.exact:
        parts = [f"({exactly} {nearest_first})"]
    else:
        graph = f"SELECT pk, product, {distance} AS distance FROM allowed ORDER BY {distance} LIMIT {plan.fetch:d}"
        tables.append(f"scanned AS MATERIALIZED ({graph})")
        tables.append(f"best AS MATERIALIZED (SELECT * FROM {_best(field, 'scanned')} {nearest_first})")
        parts = [f"SELECT {SCANNED}, pk, product, distance FROM best"]
        if reserve:
            # Runs only then: PostgreSQL evaluates the count first, as a one-time filter.
            parts.append(f"({exactly} WHERE (SELECT count(*) FROM best) < {limit:d} {nearest_first})")
    if pins:
        named = _best(field, "(SELECT * FROM matching WHERE product = ANY(%s)) AS named")
        parts.append(f"SELECT {PINNED}, pk, product, distance FROM {named}")
        params = (*params, [raw_key(field.product_model, pin, using) for pin in pins])
    return f"WITH {', '.join(tables)} {' UNION ALL '.join(parts)}", params


def _best(field: EmbeddingField, source: str) -> str:
    """Each product's nearest row, where a product can have several."""
    if field.product is None:
        return source
    columns = "DISTINCT ON (product) pk, product, distance"
    return f"(SELECT {columns} FROM {source} ORDER BY product, distance, pk) AS grouped"


@functools.cache
def owner_columns(field: EmbeddingField) -> tuple[list[Any], list[Any]]:
    """Return the columns to read from the rows that own the vectors, and from the pictures' rows that they link to.

    None where the row is the product itself: that is read as the caller's queryset says. Never the vector.
    """
    if field.product is None:
        return [], []
    own = [column for column in field.model._meta.local_concrete_fields if column is not field]
    target = field.target_model._meta
    # A multi-table child's columns lie in two tables; that one is left to load on access.
    return own, list(target.local_concrete_fields) if field.link is not None and not target.parents else []


def _owners(field: EmbeddingField, connection: Any) -> tuple[list[str], str]:
    """Return the names of ``owner_columns``, and SQL that joins their tables to ``hits``."""
    quote, opts = connection.ops.quote_name, field.model._meta
    own, linked = owner_columns(field)
    names = [f"owner.{quote(column.column)}" for column in own]
    names += [f"linked.{quote(column.column)}" for column in linked]
    joins = f" JOIN {quote(opts.db_table)} AS owner ON owner.{quote(opts.pk.column)} = hits.pk" if own else ""
    if linked:
        link = field.link
        assert link is not None
        joins += f" JOIN {quote(link.related_model._meta.db_table)} AS linked"
        joins += f" ON linked.{quote(link.target_field.column)} = owner.{quote(link.column)}"
    return names, joins


def owner_from(field: EmbeddingField, values: Sequence[Any], connection: Any) -> models.Model | None:
    """Return the row from the values of ``owner_columns``, its picture's row set; None where it is the product."""
    own, linked = owner_columns(field)
    if not own:
        return None
    row = _instance(field.model, own, values[: len(own)], connection)
    if linked:
        assert field.link is not None
        picture = _instance(field.link.related_model, linked, values[len(own) :], connection)
        setattr(row, field.link.name, picture)
    return row


def _instance(model: type[models.Model], columns: list[Any], values: Sequence[Any], connection: Any) -> models.Model:
    converted = [
        column.from_db_value(value, column.cached_col, connection) if hasattr(column, "from_db_value") else value
        for column, value in zip(columns, values, strict=True)
    ]
    return model.from_db(connection.alias, [column.attname for column in columns], converted)
