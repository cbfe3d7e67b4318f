"""What ranking reads: staff's rules, and the evidence and the vector of each neighbour.

Rules, and whether a shop has any evidence at all, are read before a search and may be remembered; evidence and vectors
are columns of the search's own statement. Its ``hits`` have the columns ``pk`` (of the row) and ``product`` (its key).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from django.core.exceptions import ValidationError

from ..conf import conf
from ..db.rows import key_from_text, stored_id
from ..db.statements import Answer, Statement
from ..fields import EmbeddingField
from ..models import Evidence, RankingRule
from .types import Rule


def model_of(field: EmbeddingField) -> str:
    """Return how evidence and rules name the field's products: ``app.model`` of the concrete model, in lower case."""
    return str(field.product_model._meta.concrete_model._meta.label_lower)


def rules_statement(field: EmbeddingField) -> Statement:
    """Return SQL that reads the rules that hold now."""
    app, _, model = model_of(field).rpartition(".")
    sql = (
        f"SELECT r.kind, r.object_id, r.query_id, r.slot, r.factor FROM {RankingRule._meta.db_table} r "
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
    for kind, object_id, for_query, slot, factor in answer:
        if for_query and for_query not in query_ids:
            continue
        try:
            product_pk = key_from_text(field.product_model, object_id, using)
        except (ValidationError, ValueError):  # written without RankingRule.clean(): no product has such a key
            continue
        rules.append(Rule(kind, product_pk, query_id if for_query else "", slot, factor))
    return tuple(rules)


def evidence_statement(field: EmbeddingField) -> Statement:
    """Return SQL that says whether there is evidence of any product."""
    return f"SELECT EXISTS (SELECT 1 FROM {Evidence._meta.db_table} WHERE model = %s)", (model_of(field),)


def ranking_columns(field: EmbeddingField, needs: Set[str], connection: Any) -> list[str]:
    """Return SQL expressions of what rankers need of each hit; ``ranking_joins`` names their tables."""
    columns: list[str] = []
    if "evidence" in needs:
        for table in ("pair", "alone"):
            # Halves every HALF_LIFE_DAYS, from when the row was written. As floats, 20 times faster than as
            # the decimals that extract() gives; and PostgreSQL refuses numbers too small for a float.
            halvings = f"extract(epoch FROM now() - {table}.as_of)::float8 / {conf.HALF_LIFE_DAYS * 86400.0!r}"
            faded = f"power(0.5::float8, least(200, {halvings}))"
            columns += [f"coalesce({table}.{name} * {faded}, 0)" for name in ("gain", "exposure")]
    if "vectors" in needs:
        columns.append(f"vectors.{connection.ops.quote_name(field.column)}")
    return columns


def ranking_joins(field: EmbeddingField, needs: Set[str], query_id: str, connection: Any) -> Statement:
    """Return SQL that joins evidence and vectors to ``hits``."""
    sql, params = "", []
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
    return sql, tuple(params)


def ranking_values(field: EmbeddingField, needs: Set[str], values: Sequence[Any], connection: Any) -> dict[str, Any]:
    """Return arguments of a Candidate from the values of ``ranking_columns``."""
    read: dict[str, Any] = {}
    if "evidence" in needs:
        read |= {"pair": (values[0], values[1]), "alone": (values[2], values[3])}
    if "vectors" in needs:
        read["vector"] = field.from_db_value(values[-1], None, connection)
    return read
