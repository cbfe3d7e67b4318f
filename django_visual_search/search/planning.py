"""Choose between an exact scan and the HNSW index, by PostgreSQL's estimates for the table and the filter.

Entry functions: ``facts_questions``, whose answers ``facts_from`` reads, and ``make_plan``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from ..conf import conf
from ..db.statements import Answer, Memory, Statement
from ..fields import EmbeddingField

MAX_EF_SEARCH = 1000  # pgvector's limit

# Deeper than one scan of the graph reaches, an exact scan of so many rows is the better answer: for k = 1,000 of 50,000
# rows, scanning on gave recall 0.93.
DEEP_EXACT_ROWS = 100_000

# Comparing one by one is exact, so up to MOST_EXACT_ROWS it's preferred where it takes no longer: PostgreSQL compares
# about ten rows in the time that one more of hnsw.ef_search takes. At the default EF_SEARCH of 100 that is 1,000 rows
# without a filter; a filter needs a wider scan, so more rows. The setting EXACT_ROWS replaces both numbers. They are
# written again in that setting's sentence (conf.declared), which can't import them, and on the page photo-to-hits; a
# test compares them.
MOST_EXACT_ROWS = 5000
ROWS_PER_EF = 10

# If an index comes or goes meanwhile, the result stays right: a plan without it scans exactly, a plan with it sorts.
facts_memory = Memory(seconds=10.0)
"""Facts, and what else a search reads before it plans: rules, and whether there is evidence."""

# Of a partitioned table, PostgreSQL counts the partitions.
ROWS = """(
    SELECT CASE WHEN relkind <> 'p' THEN reltuples ELSE (
        SELECT sum(greatest(leaf.reltuples, 0)) FROM pg_partition_tree(t.oid) p JOIN pg_class leaf ON leaf.oid = p.relid
        WHERE p.isleaf)::real END
    FROM pg_class t WHERE t.oid = %s::regclass
)"""

# Whether a valid HNSW index leads with the vector column, and the rows in the two tables (-1 if unknown).
FACTS = f"""
SELECT EXISTS (
    SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %s::regclass AND m.amname = 'hnsw' AND i.indisvalid AND i.indpred IS NULL AND a.attname = %s
), {ROWS}, {ROWS}
"""


@dataclass(frozen=True)
class Facts:
    """The facts behind a plan; numbers of rows are PostgreSQL's estimates, -1 if it has none."""

    has_index: bool
    rows: float
    """Of the vectors' table."""
    products: float
    expected: float
    """Rows under the filter."""


@dataclass(frozen=True)
class Plan:
    """``exact``: compare all rows under the filter; else take ``fetch`` rows from the graph, with these settings."""

    exact: bool
    fetch: int = 0
    settings: dict[str, str] = dataclass_field(default_factory=dict)

    def around(self, statement: Statement, *, lasting: bool = True) -> tuple[list[Statement], int]:
        """Return the statement between those that set and restore the plan's settings, and its place among them.

        ``lasting``: whether the transaction goes on after the last of them; else its end restores everything.
        """
        if self.exact:
            return [statement], 0
        names = list(self.settings)
        keep = ", ".join("set_config(%s, current_setting(%s, true), true)" for _ in names)
        put = ", ".join("set_config(%s, %s, true)" for _ in names)
        back = ", ".join("set_config(%s, current_setting(%s), true)" for _ in names)
        # Before a connection first uses pgvector, pgvector's settings do not exist there and can't be restored.
        # PostgreSQL reads the literal before it executes the rest.
        used = "SELECT '[1]'::halfvec"
        values = tuple(x for item in self.settings.items() for x in item)
        if not lasting:
            return [(f"{used}, {put}", values), statement], 1
        kept: Statement = (f"{used}, {keep}", tuple(x for name in names for x in (_kept_name(name), name)))
        put_back: Statement = (f"SELECT {back}", tuple(x for name in names for x in (name, _kept_name(name))))
        return [kept, (f"SELECT {put}", values), statement, put_back], 2


def facts_questions(
    field: EmbeddingField, connection: Any, narrowing: Statement | None
) -> dict[str, tuple[Memory | None, Statement]]:
    """Return the questions to ``statements.ask`` for ``facts_from``.

    ``narrowing``: a query for the rows under the filter; None where it keeps all.
    """
    quote = connection.ops.quote_name
    names = quote(field.model._meta.db_table), quote(field.product_model._meta.db_table)
    questions: dict[str, tuple[Memory | None, Statement]] = {
        "facts": (facts_memory, (FACTS, (names[0], field.column, *names)))
    }
    if narrowing is not None:
        sql, params = narrowing
        questions["expected"] = facts_memory, (f"EXPLAIN (FORMAT JSON) {sql}", params)
    return questions


def facts_from(answers: dict[str, Answer]) -> Facts:
    """Return the facts in answers to ``facts_questions``."""
    [(has_index, rows, products)] = answers["facts"]
    if "expected" not in answers:
        return Facts(has_index, rows, products, expected=rows)
    explained = answers["expected"][0][0]
    explained = json.loads(explained) if isinstance(explained, str) else explained
    return Facts(has_index, rows, products, expected=explained[0]["Plan"]["Plan Rows"])


def forget_facts() -> None:
    """Look at the tables again, as after an index was built; and at the rules."""
    facts_memory.forget()


def make_plan(limit: int, facts: Facts, *, grouped: bool, mixed: bool = False) -> Plan:
    """Choose between an exact scan and the graph.

    - Exact: without an index, for few expected rows, and for a limit that is a large share of them.
    - Otherwise one scan of the graph. It is wide enough to return twice the limit under a filter that is independent of
    looks. If it comes back short, the filter leaves out what looks like the query: the exact scan follows.
    - Deeper than pgvector's widest scan, in a table too large for an exact one: ``hnsw.iterative_scan``. It finds rows,
      but not the nearest: at 100k x 256, with the query's own surroundings filtered out, recall@20 was 0.68 to 0.90.

    ``mixed``: the graph has vectors of two spaces, and its edges between the two mean little. Then every table of up
    to DEEP_EXACT_ROWS is scanned exactly.
    """
    per_product = max(1.0, facts.rows / facts.products) if grouped and facts.products > 0 else 1.0
    fetch = math.ceil(limit * 2 * per_product) if grouped else limit
    share = min(1.0, facts.expected / facts.rows) if facts.rows > 0 and facts.expected > 0 else 1.0
    width = math.ceil(2 * fetch / share)
    deep = width > MAX_EF_SEARCH
    ef_search = min(MAX_EF_SEARCH, max(conf.EF_SEARCH, width))
    few = min(MOST_EXACT_ROWS, ROWS_PER_EF * ef_search) if conf.EXACT_ROWS is None else conf.EXACT_ROWS
    few = max(few, 2 * fetch, DEEP_EXACT_ROWS if mixed else 0)
    if not facts.has_index or facts.expected <= few:
        return Plan(exact=True)
    if deep and facts.expected <= DEEP_EXACT_ROWS:
        return Plan(exact=True)
    settings = {
        # Only the index gives rows in order without a sort, so this is what makes the planner choose it.
        "enable_sort": "off",
        # PostgreSQL starts the exact scan's workers before it knows that it isn't needed: 7 ms of 9 at 100k rows.
        "max_parallel_workers_per_gather": "0",
        "hnsw.iterative_scan": "relaxed_order" if deep else "off",
        "hnsw.ef_search": str(ef_search),
    }
    if deep:
        settings["hnsw.max_scan_tuples"] = str(conf.MAX_SCAN_TUPLES)
    return Plan(exact=False, fetch=math.ceil(1.5 * fetch) if deep else fetch, settings=settings)


def _kept_name(name: str) -> str:
    return f"visual_search.{name.replace('.', '_')}"
