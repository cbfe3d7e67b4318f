"""The nearest products to a query: the facts are read, a plan is made, one statement finds the rows.

Entry function: ``nearest``. It returns as many products as asked for while the filter keeps that many; fewer only at
the end of a switch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet

from ..conf import conf
from ..db.rows import key_reader, key_text
from ..db.statements import Memory, Statement, ask, compile_query, execute_together
from ..fields import EmbeddingField
from ..fields.keys import SEPARATOR
from ..ranking.rankers import needs_of
from ..ranking.reading import (
    boosts_by_attribute,
    evidence_statement,
    ranking_values,
    ranking_width,
    rules_from,
    rules_statement,
)
from ..ranking.types import Candidate, Ranker, Rule
from ..spaces import live
from . import planning
from .candidates import database_of, listed
from .planning import Plan, facts_from, facts_questions, make_plan
from .query import Query, moved, stored_queries
from .sql import COMPLETE, PINNED, SCANNED, owner_from, search_statement


@dataclass(frozen=True)
class Found:
    """The nearest products, each by its best row."""

    candidates: list[Candidate]
    """Nearest first; after them those that only a pin names."""
    exact: bool
    """Whether these are surely the nearest."""
    partial: bool = False
    """Whether a live space was not searched, as the query has no vector in it."""
    extractor_key: str = ""
    """The query's own space; empty where it turned out to have no vector."""
    vector: Any = None
    """The query's vector in that space."""
    rules: tuple[Rule, ...] = ()
    query_id: str = ""
    """The primary key of the product asked about, as text."""
    live: tuple[live.Space, ...] = ()
    """The live spaces of the field."""


def nearest(
    field: EmbeddingField,
    query: Sequence[Query] | QuerySet[Any],
    *,
    limit: int,
    within: QuerySet[Any],
    exclude: Any = None,
    rankers: Sequence[Ranker] = (),
    toward: Mapping[str, Any] | None = None,
    named: Sequence[Any] = (),
) -> Found:
    """Return the ``limit`` nearest products; more where rankers have something to choose from, and the pinned ones too.

    ``query``: the vectors, one for each live space; or a ``query.stored_picture``, which is read with the facts in one
    message, and whose product is left out. ``exclude``: the primary key of the product to leave out. ``toward``: by
    extractor key, the direction in which words move the query; with it, even if it's empty, no rule and no evidence of
    the query product counts. ``named``: primary keys of products to add as a pin adds them.
    """
    found = _nearest(field, query, limit, within, exclude, rankers, toward, named)
    if found.partial and len(found.candidates) < limit and isinstance(query, QuerySet):
        # The product's own vector may have moved to the new space after it was read, with the last of the old one.
        again = _nearest(field, query, limit, within, exclude, rankers, toward, named)
        return again if again.extractor_key != found.extractor_key else found
    return found


def _nearest(
    field: EmbeddingField,
    query: Sequence[Query] | QuerySet[Any],
    limit: int,
    within: QuerySet[Any],
    exclude: Any,
    rankers: Sequence[Ranker],
    toward: Mapping[str, Any] | None,
    named: Sequence[Any],
) -> Found:
    connection = connections[database_of(field, within)]
    needs = set(needs_of(rankers))
    try:
        rows, narrowed = listed(field, within, connection.alias)
    except EmptyResultSet:
        rows, narrowed = None, False
    questions = facts_questions(field, connection, rows if narrowed else None)
    questions["spaces"] = live.spaces_memory, live.live_spaces_statement(field)
    if "rules" in needs:
        questions["rules"] = planning.facts_memory, rules_statement(field)
    if "evidence" in needs:
        questions["evidence"] = planning.facts_memory, evidence_statement(field)
    if isinstance(query, QuerySet):
        questions["stored"] = None, compile_query(query, connection.alias)
    answers, sent = ask(connection, questions)

    spaces = live.live_spaces_from(field, answers["spaces"])
    if isinstance(query, QuerySet):
        if answers["stored"] and answers["stored"][0][2] is not None:
            exclude = key_reader(field.product_model, connection.alias)(answers["stored"][0][2])
        query = stored_queries(field, answers["stored"], spaces, connection)
    query_id = "" if exclude is None else str(exclude)
    if toward is not None:
        query = [moved(one, toward) for one in query]
    asked = query_id if toward is None else ""
    if not query or rows is None:
        key = query[0].extractor_key if query else ""
        return Found([], True, extractor_key=key, query_id=query_id, live=spaces.all)

    rules = rules_from(field, answers["rules"], asked, connection.alias) if "rules" in needs else ()
    if not rules:
        needs.discard("rules")
    if "evidence" in needs and not answers["evidence"][0][0]:
        needs.discard("evidence")
    if needs or any(not getattr(ranker, "needs", ()) for ranker in rankers):
        # For each product that may be hidden there is another to take its place.
        hidden = {rule.product_pk for rule in rules if rule.kind == "hide" and not rule.attribute}
        limit = max(limit, conf.RANKING_DEPTH) + len(hidden)

    plan = make_plan(limit, facts_from(answers), grouped=field.product is not None, mixed=spaces.other is not None)
    pins = [*(rule.product_pk for rule in rules if rule.kind == "pin"), *named]
    how: dict[str, Any] = {"limit": limit, "exclude": exclude, "pins": pins, "needs": needs, "rules": rules}
    of_product = exclude is not None and toward is None
    how["query_id"] = key_text(field.product_model, exclude, connection.alias) if of_product else ""
    # A search sends three messages at most: facts, rows, products. If it has sent the first, an exact scan after a
    # scan that came back short would be the fourth, so it goes into the same statement. Otherwise it is left out: it
    # rarely runs, and takes PostgreSQL a quarter of a millisecond to plan.
    reserve = sent or len(query) > 1
    hits = _run_plan(
        field, connection, plan, search_statement(field, connection, rows, query, plan, reserve=reserve, **how)
    )
    if not plan.exact and not reserve and sum(hit.part == SCANNED for hit in hits) < limit:
        plan = Plan(exact=True)
        hits = _run_plan(field, connection, plan, search_statement(field, connection, rows, query, plan, **how))

    boosts = boosts_by_attribute(rules)
    rankings, exact = [], True
    for space, one in enumerate(query):
        found = [hit for hit in hits if hit.space == space]
        complete = [hit for hit in found if hit.part == COMPLETE]
        exact = exact and (plan.exact or bool(complete) or not found)
        near = complete or [hit for hit in found if hit.part == SCANNED]
        near = sorted(near, key=lambda hit: (hit.distance, hit.pk))[:limit]
        products = {hit.product for hit in near}
        beyond = [hit for hit in found if hit.part == PINNED and hit.product not in products]
        rankings.append(
            [_candidate(field, connection, hit, one.extractor_key, needs, boosts) for hit in near]
            + [_candidate(field, connection, hit, one.extractor_key, needs, boosts, pinned=True) for hit in beyond]
        )
    candidates = (
        rankings[0] if len(query) == 1 else merge(rankings, rows_by_space(field, connection.alias), limit, pins)
    )
    partial = len(query) < len(spaces.all)
    return Found(
        candidates,
        exact and not partial,
        partial,
        query[0].extractor_key,
        query[0].vector,
        rules,
        query_id,
        spaces.all,
    )


class _Hit(NamedTuple):
    """A row of ``search_statement``'s answer."""

    space: int
    part: int
    pk: Any
    product: Any
    distance: float
    more: list[Any]
    """The values of ``ranking_columns`` and of ``owner_columns``."""


def _run_plan(field: EmbeddingField, connection: Any, plan: Plan, statement: Statement) -> list[_Hit]:
    lasting = connection.in_atomic_block or not connection.get_autocommit()
    statements, place = plan.around(statement, lasting=lasting)
    answer = execute_together(connection, statements)[place]
    row_key, product_key = (key_reader(model, connection.alias) for model in (field.model, field.product_model))
    return [
        _Hit(space, part, row_key(pk), product_key(product), distance, more)
        for space, part, pk, product, distance, *more in answer
    ]


def _candidate(
    field: EmbeddingField,
    connection: Any,
    hit: _Hit,
    extractor_key: str,
    needs: Set[str],
    boosts: Sequence[Rule],
    *,
    pinned: bool = False,
) -> Candidate:
    width = ranking_width(needs, boosts)
    score = similarity(field, hit.distance)
    return Candidate(
        product_pk=hit.product,
        row_pk=hit.pk,
        row=owner_from(field, hit.more[width:], connection),
        distance=hit.distance,
        similarity=score,
        score=score,
        extractor_key=extractor_key,
        pinned=pinned,
        **ranking_values(field, needs, hit.more[:width], connection, boosts),
    )


def similarity(field: EmbeddingField, distance: float) -> float:
    """Return the cosine (-1..1), 1 / (1 + d) for l2 (0..1), or the inner product."""
    if math.isnan(distance):
        return -1.0
    if field.metric == "l2":
        return 1 / (1 + distance)
    return max(-1.0, min(1.0, 1 - distance)) if field.metric == "cosine" else -distance


# Two spaces: one ranking from the rankings of both, whose similarities can't be compared

# No fixed time: counts are kept 20 times as long as counting took, and a small shop's vectors move within a second.
counts_memory = Memory(seconds=0, times=20.0)
"""Counts of ``rows_by_space``."""


def merge(
    rankings: Sequence[list[Candidate]], rows: dict[str, int], limit: int, pins: Collection[Any]
) -> list[Candidate]:
    """Merge by estimated overall rank: rank i in a space with share s of the rows counts as rank i / s overall.

    ``rankings``: of one space each. ``rows``: how many rows each space has, by extractor key. A product that is in
    several keeps its best place. The scores are dealt out again, the largest to the first, so that rankers see one
    scale; similarities stay as they are. ``pins``: keys of products that stay though they come after ``limit``.
    """
    keys = [ranking[0].extractor_key for ranking in rankings if ranking]
    total = sum(rows.get(key, 0) for key in keys)
    places: dict[Any, tuple[bool, float, Candidate]] = {}
    for ranking in rankings:
        for i, candidate in enumerate(ranking):
            step = total / max(1, rows.get(candidate.extractor_key, 0))
            place = (candidate.pinned, (i + 0.5) * step, candidate)
            best = places.get(candidate.product_pk)
            if best is None or place[:2] < best[:2]:
                places[candidate.product_pk] = place
    ordered = [candidate for _, _, candidate in sorted(places.values(), key=lambda place: place[:2])]
    near = [candidate for candidate in ordered if not candidate.pinned]
    pinned = [candidate for candidate in ordered if candidate.pinned]
    # Among the nearest of its space, a candidate is not marked as pinned.
    pinned += [replace(candidate, pinned=True) for candidate in near[limit:] if candidate.product_pk in pins]
    near = near[:limit]
    for candidate, score in zip(near, sorted((c.score for c in near), reverse=True), strict=True):
        candidate.score = score
    return near + pinned


def rows_by_space(field: EmbeddingField, using: str) -> dict[str, int]:
    """Return how many rows have a vector of each space, by extractor key, as counted a moment ago."""
    connection = connections[using]
    quote, opts = connection.ops.quote_name, field.model._meta
    key = quote(opts.get_field(field.key_name).column)
    sql = (
        f"SELECT split_part({key}, %s, 1), count(*) FROM {quote(opts.db_table)} "
        f"WHERE {quote(field.column)} IS NOT NULL GROUP BY 1"
    )
    answers, _ = ask(connection, {"rows": (counts_memory, (sql, (SEPARATOR,)))})
    return dict(answers["rows"])


def forget_counts() -> None:
    """Count again."""
    counts_memory.forget()
