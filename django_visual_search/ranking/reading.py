"""Reads what ranking works from along with a search: evidence of each neighbour, vectors, and the rules that hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError

from ..conf import conf
from ..db.statements import Statement
from ..fields import EmbeddingField
from ..models import Evidence, RankingRule
from .types import Rule, Wishes


def model_of(field: EmbeddingField) -> str:
    """How evidence and rules name the field's products: ``app.model`` of the concrete model, in lower case."""
    return str(field.product_model._meta.concrete_model._meta.label_lower)


def known_before(field: EmbeddingField, wishes: Wishes) -> list[Statement]:
    """Statements whose answers may be remembered for a while: the rules, and whether there is any evidence."""
    label = model_of(field)
    statements: list[Statement] = []
    if "rules" in wishes.needs:
        app, _, model = label.rpartition(".")
        sql = (
            f"SELECT r.kind, r.object_id, r.query_id, r.slot, r.factor FROM {RankingRule._meta.db_table} r "
            "JOIN django_content_type c ON c.id = r.content_type_id WHERE c.app_label = %s AND c.model = %s "
            "AND (r.starts_at IS NULL OR r.starts_at <= now()) AND (r.ends_at IS NULL OR r.ends_at > now()) "
            "ORDER BY r.slot, r.id"
        )
        statements.append((sql, (app, model)))
    if "evidence" in wishes.needs:
        statements.append((f"SELECT EXISTS (SELECT 1 FROM {Evidence._meta.db_table} WHERE model = %s)", (label,)))
    return statements


def read_known(
    field: EmbeddingField, wishes: Wishes, answers: list[list[tuple[Any, ...]]]
) -> tuple[tuple[Rule, ...], Wishes]:
    """The rules for this query, and the wishes without those that nothing is there for."""
    rows = iter(answers)
    needs = set(wishes.needs)
    rules: tuple[Rule, ...] = ()
    if "rules" in needs:
        rules = tuple(_rules(field, next(rows), wishes.query_id))
        if not rules:
            needs.discard("rules")
    if "evidence" in needs and not next(rows)[0][0]:
        needs.discard("evidence")
    # For each product that may be hidden there is another to take its place.
    hidden = {rule.product_pk for rule in rules if rule.kind == "hide"}
    depth = wishes.depth + len(hidden) if needs or wishes.always else 0
    return rules, Wishes(wishes.query_id, depth, frozenset(needs), wishes.always)


def _rules(field: EmbeddingField, rows: list[tuple[Any, ...]], query_id: str) -> Iterator[Rule]:
    to_python = field.product_model._meta.pk.to_python
    for kind, object_id, for_query, slot, factor in rows:
        if for_query not in ("", query_id):
            continue
        try:
            product_pk = to_python(object_id)
        except ValidationError:  # written without RankingRule.clean(): no product has such a key
            continue
        yield Rule(kind, product_pk, for_query, slot, factor)


class Extras:
    """Further columns of each hit: faded evidence, and its vector. Joined by the key of the product and of the row."""

    def __init__(self, field: EmbeddingField, wishes: Wishes, connection: Any) -> None:
        self.field = field
        self.connection = connection
        self.evidence = "evidence" in wishes.needs
        self.vectors = "vectors" in wishes.needs
        self.query_id = wishes.query_id

    def columns(self) -> list[str]:
        names: list[str] = []
        if self.evidence:
            for table in ("pair", "alone"):
                # Halves every HALF_LIFE_DAYS, from when the row was written. As floats, 20 times faster than as
                # the decimals that extract() gives; and PostgreSQL refuses numbers too small for a float.
                halvings = f"extract(epoch FROM now() - {table}.as_of)::float8 / {conf.HALF_LIFE_DAYS * 86400.0!r}"
                faded = f"power(0.5::float8, least(200, {halvings}))"
                names += [f"coalesce({table}.{name} * {faded}, 0)" for name in ("gain", "exposure")]
        if self.vectors:
            names.append(f"vectors.{self.connection.ops.quote_name(self.field.column)}")
        return names

    def joins(self) -> tuple[str, tuple[Any, ...]]:
        sql, params = "", []
        if self.evidence:
            # LIMIT makes it one look into the unique index for each hit. A plain join is planned so only where the
            # table's statistics are true: with those of a table that was nearly empty, it reads all evidence per hit.
            for table, query_id in (("pair", self.query_id or None), ("alone", "")):
                sql += (
                    f" LEFT JOIN LATERAL (SELECT gain, exposure, as_of FROM {Evidence._meta.db_table} WHERE model = %s "
                    f"AND query_id = %s AND object_id = hits.product::text LIMIT 1) AS {table} ON true"
                )
                params += [model_of(self.field), query_id]
        if self.vectors:
            quote = self.connection.ops.quote_name
            opts = self.field.model._meta
            sql += f" JOIN {quote(opts.db_table)} AS vectors ON vectors.{quote(opts.pk.column)} = hits.pk"
        return sql, tuple(params)

    def read(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Keyword arguments of a Candidate."""
        read: dict[str, Any] = {}
        if self.evidence:
            read |= {"pair": (values[0], values[1]), "alone": (values[2], values[3])}
        if self.vectors:
            read["vector"] = self.field.from_db_value(values[-1], None, self.connection)
        return read
