"""Read for ranking: staff's rules, and each neighbour's evidence, vector and matching rules.

Rules, and whether a shop has any evidence at all, are read before a search and may be remembered; the others are
columns of the search's own statement. Its ``hits`` have the columns ``pk`` (of the row) and ``product`` (its key).
Products that a rule hides by an attribute are left out by that statement too (``hidden_sql``): they may be many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.core.exceptions import ValidationError

from ..conf import conf
from ..db.rows import key_from_text, raw_key, rows_with_sql, stored_id
from ..db.statements import Answer, Statement
from ..fields import EmbeddingField
from ..models import Evidence, RankingRule
from .types import Rule


def model_of(field: EmbeddingField) -> str:
    """Return the name of the field's products in evidence and rules: ``app.model`` of the concrete model."""
    return str(field.product_model._meta.concrete_model._meta.label_lower)


RULE = ("id", "kind", "object_id", "query_id", "slot", "factor", "attribute", "value")
"""The columns of ``rules_statement``."""

_on_trial: ContextVar[tuple[RankingRule, bool] | None] = ContextVar("rule on trial", default=None)


@contextmanager
def on_trial(rule: RankingRule, *, counts: bool = True) -> Iterator[None]:
    """Apply this rule in the searches of this context, saved or not, and regardless of its dates.

    ``counts``: False to leave it out, even if it is saved.
    """
    token = _on_trial.set((rule, counts))
    try:
        yield
    finally:
        _on_trial.reset(token)


def rules_statement(field: EmbeddingField) -> Statement:
    """Return SQL that reads the rules that hold now."""
    app, _, model = model_of(field).rpartition(".")
    sql = (
        f"SELECT {', '.join(f'r.{name}' for name in RULE)} FROM {RankingRule._meta.db_table} r "
        "JOIN django_content_type c ON c.id = r.content_type_id WHERE c.app_label = %s AND c.model = %s "
        "AND (r.starts_at IS NULL OR r.starts_at <= now()) AND (r.ends_at IS NULL OR r.ends_at > now()) "
        "ORDER BY r.slot, r.id"
    )
    return sql, (app, model)


def rules_from(field: EmbeddingField, answer: Answer, query_id: str, using: str) -> tuple[Rule, ...]:
    """Return the rules for this query and those for every search, from an answer to ``rules_statement``.

    ``query_id``: the text of the key of the query's product; a rule may have the text of the instance's own key too.
    """
    rules = []
    query_ids = {query_id, stored_id(field.product_model, query_id, using)} if query_id else ()
    for pk, kind, object_id, for_query, slot, factor, attribute, value in _with_trial(field, answer):
        if for_query and for_query not in query_ids:
            continue
        product_pk = None
        if not attribute:
            try:
                product_pk = key_from_text(field.product_model, object_id, using)
            except (ValidationError, ValueError):  # written without RankingRule.clean(): no product has such a key
                continue
        of_query = query_id if for_query else ""
        rules.append(Rule(kind, product_pk, of_query, slot, factor, attribute, value, pk))
    return tuple(rules)


def _with_trial(field: EmbeddingField, answer: Answer) -> Sequence[Sequence[Any]]:
    """Return the answer with the rule on trial in place of its saved state, in the answer's order."""
    rule, counts = _on_trial.get() or (None, False)
    if rule is None or ".".join(rule.content_type.natural_key()) != model_of(field):
        return answer
    rows = [row for row in answer if row[0] != rule.pk]
    if counts:
        rows.append(tuple(getattr(rule, name) for name in RULE))
    slot, pk = RULE.index("slot"), RULE.index("id")
    return sorted(rows, key=lambda row: (row[slot] is None, row[slot] or 0, row[pk] is None, row[pk] or 0))


# Rules by attribute


def hidden_sql(field: EmbeddingField, rules: Sequence[Rule], using: str) -> Statement | None:
    """Return an SQL condition on ``product``: whether a rule by attribute hides it. None without such rules.

    A product with rules of its own is never hidden by its attributes, and rules for this query go before those for
    every search, as ``rankers.merchandise`` has it.
    """
    ours = [rule for rule in rules if rule.attribute and rule.query_id]
    others = [rule for rule in rules if rule.attribute and not rule.query_id]
    hidden = _any_of(field, [rule for rule in ours if rule.kind == "hide"], using)
    everywhere = _any_of(field, [rule for rule in others if rule.kind == "hide"], using)
    spared = _any_of(field, ours, using)
    if everywhere and spared:
        everywhere = f"{everywhere[0]} AND NOT {spared[0]}", (*everywhere[1], *spared[1])
    parts = [part for part in (hidden, everywhere) if part]
    if not parts:
        return None
    sql = f"({' OR '.join(f'({sql})' for sql, _ in parts)})"
    params = tuple(param for _, more in parts for param in more)
    named = {rule.product_pk for rule in rules if not rule.attribute}
    if not named:
        return sql, params
    return f"({sql} AND product <> ALL(%s))", (*params, [raw_key(field.product_model, pk, using) for pk in named])


def _any_of(field: EmbeddingField, rules: Sequence[Rule], using: str) -> Statement | None:
    """Return an SQL condition on ``product``: whether one of these rules matches it; None where none can.

    Not a join, by which PostgreSQL would give up the graph's order: a subquery without a reference to the row runs
    once, and its keys are hashed.
    """
    found = [rows_with_sql(field.product_model, rule.attribute, rule.value, using) for rule in rules]
    statements = [one for one in found if one is not None]
    if not statements:
        return None
    sql = " OR ".join(f"product IN ({sql})" for sql, _ in statements)
    return f"({sql})", tuple(param for _, params in statements for param in params)


def boosts_by_attribute(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules of which ``ranking_columns`` is to say which match each hit."""
    return tuple(rule for rule in rules if rule.attribute and rule.kind == "boost")


def evidence_statement(field: EmbeddingField) -> Statement:
    """Return SQL that says whether there is evidence of any product."""
    return f"SELECT EXISTS (SELECT 1 FROM {Evidence._meta.db_table} WHERE model = %s)", (model_of(field),)


MOST_HALVINGS = 200
"""PostgreSQL raises an error where a product is too small for a float, and each count halves a sum again."""


def faded(since: str, until: str) -> str:
    """Return SQL for the rest at ``until`` of a weight of 1 at ``since``: it halves every ``HALF_LIFE_DAYS``.

    In floats: 20 times faster than in the decimals that extract() gives.
    """
    halvings = f"extract(epoch FROM {until} - {since})::float8 / {conf.HALF_LIFE_DAYS * 86400.0!r}"
    return f"power(0.5::float8, least({MOST_HALVINGS}, greatest(0, {halvings})))"


def ranking_columns(field: EmbeddingField, needs: Set[str], connection: Any, boosts: Sequence[Rule] = ()) -> list[str]:
    """Return SQL expressions of what rankers need of each hit; ``ranking_joins`` names their tables."""
    columns: list[str] = []
    if "evidence" in needs:
        for table in ("pair", "alone"):
            rest = faded(f"{table}.as_of", "now()")
            columns += [f"coalesce({table}.{name} * {rest}, 0)" for name in ("gain", "exposure")]
    if "vectors" in needs:
        columns.append(f"vectors.{connection.ops.quote_name(field.column)}")
    return [*columns, "by_attribute.matched"] if boosts else columns


def ranking_joins(
    field: EmbeddingField, needs: Set[str], query_id: str, connection: Any, boosts: Sequence[Rule] = ()
) -> Statement:
    """Return SQL that joins evidence, vectors and which of ``boosts`` match to ``hits``."""
    sql: str = ""
    params: list[Any] = []
    if "evidence" in needs:
        # LIMIT makes it one look into the unique index for each hit. A plain join is planned so only where the
        # table's statistics are true: with those of a table that was nearly empty, it reads all evidence per hit.
        for table, of_query in (("pair", query_id or None), ("alone", "")):
            sql += (
                f" LEFT JOIN LATERAL (SELECT gain, exposure, as_of FROM {Evidence._meta.db_table} WHERE model = %s "
                f"AND query_id = %s AND object_id = hits.product::text LIMIT 1) AS {table} ON true"
            )
            params += [model_of(field), of_query]
    if "vectors" in needs:
        quote, opts = connection.ops.quote_name, field.model._meta
        sql += f" JOIN {quote(opts.db_table)} AS vectors ON vectors.{quote(opts.pk.column)} = hits.pk"
    if boosts:
        matches = [_any_of(field, [rule], connection.alias) or ("false", ()) for rule in boosts]
        columns = ", ".join(one for one, _ in matches)
        sql += f" CROSS JOIN LATERAL (SELECT ARRAY[{columns}] FROM (SELECT hits.product) AS one (product))"
        sql += " AS by_attribute (matched)"
        params += [param for _, more in matches for param in more]
    return sql, tuple(params)


def ranking_width(needs: Set[str], boosts: Sequence[Rule] = ()) -> int:
    """Return how many columns ``ranking_columns`` has."""
    return 4 * ("evidence" in needs) + ("vectors" in needs) + bool(boosts)


def ranking_values(
    field: EmbeddingField, needs: Set[str], values: Sequence[Any], connection: Any, boosts: Sequence[Rule] = ()
) -> dict[str, Any]:
    """Return arguments of a Candidate from the values of ``ranking_columns``."""
    read: dict[str, Any] = {}
    if boosts:
        *values, matched = values
        read["matched"] = tuple(rule for rule, matches in zip(boosts, matched, strict=True) if matches)
    if "evidence" in needs:
        read |= {"pair": (values[0], values[1]), "alone": (values[2], values[3])}
    if "vectors" in needs:
        read["vector"] = field.from_db_value(values[-1], None, connection)
    return read
