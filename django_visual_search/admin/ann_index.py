"""The ANN index of an embedding field: its size and state, and whether searches use it.

``ann_facts`` gathers that for the dashboard.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import connections, router

from ..db.rows import all_rows
from ..db.statements import ask, compile_query, execute_together, halfvec_text
from ..fields import EmbeddingField
from ..indexing import ann
from ..search.candidates import candidates, embedded, products
from ..search.planning import facts_from, facts_questions, make_plan
from ..search.sql import OPERATORS
from ..spaces.heads import serving_extractor_key

TYPICAL_LIMIT = 24
"""Limit of the search whose plan is shown."""

INDEXES = """
SELECT c.relname, pg_relation_size(c.oid), i.indisvalid, p.phase,
       CASE WHEN p.tuples_total > 0 THEN p.tuples_done::float / p.tuples_total
            WHEN p.blocks_total > 0 THEN p.blocks_done::float / p.blocks_total END
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
LEFT JOIN pg_stat_progress_create_index p ON p.index_relid = c.oid AND p.datid = (
    SELECT oid FROM pg_database WHERE datname = current_database())
WHERE i.indrelid = %s::regclass AND c.relname = ANY(%s) ORDER BY c.relname
"""


@dataclass(frozen=True)
class IndexState:
    """One index in the database. ``size`` in bytes; ``built``: the share that is built, 0 to 1, or None."""

    name: str
    size: int
    valid: bool
    phase: str | None = None
    built: float | None = None

    @property
    def percent(self) -> int | None:
        return None if self.built is None else int(100 * self.built)


@dataclass(frozen=True)
class AnnFacts:
    declared: list[str]
    indexes: list[IndexState] = dataclass_field(default_factory=list)
    exact: bool = True
    """Whether an unfiltered search for TYPICAL_LIMIT products compares all rows."""
    used: str = ""
    """The index that PostgreSQL uses for that search; empty where it is exact."""
    rows: int = 0
    """PostgreSQL's estimate for the table."""

    @property
    def missing(self) -> list[str]:
        existing = {index.name for index in self.indexes}
        return [name for name in self.declared if name not in existing]

    @property
    def few(self) -> bool:
        """Whether all rows are compared because there are few, and not because an index is missing."""
        return self.exact and bool(self.declared) and not self.missing and all(index.valid for index in self.indexes)


def ann_facts(field: EmbeddingField) -> AnnFacts:
    """Return the facts, by three small round trips whatever the table's size.

    Raise ImproperlyConfigured for a bad extractor.
    """
    declared = [index.name for index in ann.declared_indexes(field)]
    connection = connections[router.db_for_read(field.model)]
    table = connection.ops.quote_name(field.model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(INDEXES, [table, declared])
        indexes = [IndexState(*row) for row in cursor.fetchall()]
    try:
        rows, filtered = candidates(field, _searchable_products(field))
        narrowing = compile_query(rows.values_list("pk"), connection.alias) if filtered else None
        answers, _ = ask(connection, facts_questions(field, connection, narrowing))
        facts = facts_from(answers)
        plan = make_plan(TYPICAL_LIMIT, facts, grouped=field.product is not None)
        used = "" if plan.exact else _index_used(field, rows, plan, connection)
    except EmptyResultSet:  # the default manager shows nothing
        return AnnFacts(declared, indexes)
    return AnnFacts(declared, indexes, plan.exact, used, max(0, round(facts.rows)))


def _searchable_products(field: EmbeddingField) -> Any:
    """Return the products that a search sees by default, or all if their manager works in a shop's pages only."""
    try:
        return products(field, None)
    except Exception:  # as django-scopes' do, by an exception of their own
        return all_rows(field.product_model)


def _index_used(field: EmbeddingField, rows: Any, plan: Any, connection: Any) -> str:
    """Return the index in PostgreSQL's plan of the search, under a search's settings; empty where there is none."""
    rows = embedded(field, rows, serving_extractor_key(field), None)
    allowed, params = compile_query(rows.values_list("pk", field.name), connection.alias)
    width = field.dimensions or 1
    query = halfvec_text(np.full(width, width**-0.5))
    sql = (
        f"EXPLAIN (FORMAT JSON) WITH allowed (pk, vector) AS NOT MATERIALIZED ({allowed}) "
        f"SELECT pk FROM allowed ORDER BY vector {OPERATORS[field.metric]} %s::halfvec LIMIT {TYPICAL_LIMIT}"
    )
    statements, place = plan.around((sql, (*params, query)))
    answer = execute_together(connection, statements)[place]
    explained = answer[0][0]
    explained = json.loads(explained) if isinstance(explained, str) else explained
    names = {index.name for index in ann.declared_indexes(field)}
    return next((name for name in _index_names(explained[0]["Plan"]) if name in names), "")


def _index_names(plan: dict[str, Any]) -> list[str]:
    below = [name for child in plan.get("Plans", []) for name in _index_names(child)]
    return [plan["Index Name"], *below] if "Index Name" in plan else below
