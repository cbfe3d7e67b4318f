"""The nearest rows to a vector: plans, then scans, and never comes back short."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, router
from django.db.models import QuerySet

from ..db.statements import Answer, Statement, compile_query, execute_together
from ..fields import EmbeddingField
from ..ranking.reading import Extras, known_before, read_known
from ..ranking.types import Candidate, Rule, Wishes
from ..spaces.serving import asked, learn, serving
from .candidates import listed, read_along
from .planning import Plan, facts_of, make_plan
from .sql import COMPLETE, PINNED, SCANNED, Columns, RowReader, columns_of, graph, joined, scan


@dataclass(frozen=True)
class Query:
    """What to look for: a vector and its space, ``stored``, rows of (vector, key) of which the first is read, or
    ``later``, which says it once it is known what serves the field.

    ``owner``: a row of the primary key of the product that it is about, where that is not known yet.
    """

    vector: Any = None
    extractor_key: str = ""
    stored: QuerySet[Any] | None = None
    later: Callable[[], Query] | None = None
    owner: QuerySet[Any] | None = None


@dataclass(frozen=True)
class Found:
    """What a scan found, nearest first, the best row of each product."""

    candidates: list[Candidate]
    exact: bool
    """Whether these are surely the nearest."""
    extractor_key: str
    """The vector space; empty where the query turned out to have no vector."""
    rules: tuple[Rule, ...] = ()
    vector: Any = None
    """What was searched with."""
    moving: bool = False
    """Whether vectors were moving from one space to another, as far as this process knew."""
    owner: Any = None
    """The primary key that the query's ``owner`` gave."""


def nearest(
    field: EmbeddingField,
    query: Query,
    *,
    limit: int,
    within: QuerySet[Any],
    exclude: Any = None,
    wishes: Wishes = Wishes(),  # noqa: B008 - frozen
    along: bool = False,
) -> Found:
    """The ``limit`` nearest products; more where rankers have something to choose from, and then the pinned ones too.

    If that many products are there under the filter, that many come back. Two round trips at most, or three where the
    products need none. ``along``: read the products too, if no more than ``limit`` are wanted and
    ``candidates.read_along`` holds.
    """
    using = router.db_for_read(field.model)
    connection = connections[using]
    extractor_key = query.extractor_key
    rules: tuple[Rule, ...] = ()
    owner = None
    try:
        along = along and read_along(field, within, using)
        columns = columns_of(field.model, field, using).attnames if along else ()
        rows, filtered = listed(field, within, using, columns)
        about = asked(field, connection)
        stored = [] if query.stored is None else [compile_query(query.stored, using)]
        first = [*about, *stored, *([] if query.owner is None else [compile_query(query.owner, using)])]
        facts, read, known = facts_of(field, connection, rows if filtered else None, first, known_before(field, wishes))
        if about:
            learn(field, connection, read[0])
        if query.owner is not None:
            owner = exclude = read[-1][0][0] if read[-1] else None
            wishes = replace(wishes, query_id="" if owner is None else str(owner))
        if stored:
            query = _read_query(field, read[len(about)], connection)
        elif query.later:
            query = query.later()
        extractor_key = query.extractor_key
        if query.vector is None:
            return Found([], True, "", owner=owner)
        rules, wishes = read_known(field, wishes, known)
        along = along and limit >= wishes.depth
        limit = max(limit, wishes.depth)
        moving = serving(field).also is not None
        plan = make_plan(limit, facts, grouped=field.product is not None, mixed=moving)
        pins = [rule.product_pk for rule in rules if rule.kind == "pin"]
    except EmptyResultSet:
        if query.later:  # a photo that isn't accepted is to be refused all the same
            extractor_key = query.later().extractor_key
        if query.owner is not None:
            owner = query.owner.using(using).first()
        return Found([], True, extractor_key, rules, owner=owner)
    reader, extras = RowReader(field, connection, within.model if along else None), Extras(field, wishes, connection)
    lasting = connection.in_atomic_block or not connection.get_autocommit()

    def run(plan: Plan, statement: Statement, read: Columns = ()) -> Answer:
        statements, place = plan.around(joined(statement, reader, extras, read=read), lasting=lasting)
        return execute_together(connection, statements)[place]

    # The exact scan is rarely needed after the graph. Where a search has a third round trip left, it isn't even planned
    # before it is.
    found: Answer = []
    alone = not plan.exact and plan.fetch == limit and not pins and not moving and (along or not facts.asked)
    if alone:
        names = tuple(f"c{i}" for i in range(len(columns))) if along else ()
        allowed = _embedded(field, rows, extractor_key, exclude, connection, names)
        found = run(plan, graph(field, allowed, query.vector, limit, names), names)
        if len(found) < limit:
            plan, alone = Plan(exact=True), False
    if not alone:
        allowed = _embedded(field, rows, extractor_key, exclude, connection)
        found = run(plan, scan(field, allowed, query.vector, limit, plan, pins))
    complete = [values for values in found if values[3] == COMPLETE]
    nearest_rows = complete or [values for values in found if values[3] == SCANNED]
    nearest_rows = sorted(nearest_rows, key=lambda values: (values[2], values[0]))[:limit]
    there = {values[1] for values in nearest_rows}
    nearest_rows += [values for values in found if values[3] == PINNED and values[1] not in there]
    width = len(extras.columns())
    result = []
    for pk, product_key, distance, _, *rest in nearest_rows:
        score = similarity(field, distance)
        row, known_of = reader.read(tuple(rest[width:])), extras.read(tuple(rest[:width]))
        pinned = product_key not in there
        result.append(Candidate(product_key, pk, row, distance, score, score, extractor_key, pinned=pinned, **known_of))
    exact = plan.exact or bool(complete) or not found
    return Found(result, exact, extractor_key, rules, query.vector, moving, owner)


def _read_query(field: EmbeddingField, rows: list[tuple[Any, ...]], connection: Any) -> Query:
    for vector, key in rows:
        return Query(field.from_db_value(vector, None, connection), key.partition(":")[0])
    return Query()


def _embedded(
    field: EmbeddingField, rows: Statement, extractor_key: str, exclude: Any, connection: Any, read: Columns = ()
) -> Statement:
    """Those of ``listed`` rows that have a vector of that space, and whose product is not ``exclude``.

    ``read``: names for the further columns of ``listed``, which are then given too.
    """
    more = "".join(f", {name}" for name in read)
    sql, params = rows
    # PostgreSQL pulls the inner query up, as if its conditions were written here.
    sql = (
        f"SELECT pk, product, vector{more} FROM ({sql}) AS listed (pk, product, vector, key{more}) "
        "WHERE vector IS NOT NULL AND key LIKE %s"
    )
    params = *params, f"{connection.ops.prep_for_like_query(extractor_key)}:%"
    if exclude is None:
        return sql, params
    pk = field.product_model._meta.pk
    return f"{sql} AND product <> %s", (*params, pk.get_db_prep_value(pk.to_python(exclude), connection))


def similarity(field: EmbeddingField, distance: float) -> float:
    """The cosine (-1..1), 1 / (1 + d) for l2 (0..1, the article's score), or the inner product."""
    if math.isnan(distance):
        return -1.0
    if field.metric == "l2":
        return 1 / (1 + distance)
    return max(-1.0, min(1.0, 1 - distance)) if field.metric == "cosine" else -distance
