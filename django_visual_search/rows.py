"""Reads the rows that own the vectors along with the distances: naming the picture that matched costs no query."""

from __future__ import annotations

from typing import Any

from django.db import models

from .fields import EmbeddingField


class RowReader:
    """Joins the owning rows (without their vectors) and the pictures they link to onto a statement's hits.

    Where the row is the product itself it is read as ``model``, if given; if not, it is read with the product instead,
    and ``read`` returns None.
    """

    def __init__(self, field: EmbeddingField, connection: Any, model: type[models.Model] | None = None) -> None:
        self.field = field
        self.connection = connection
        self.model = model or field.model
        self.wanted = field.product is not None or model is not None
        self.own = [f for f in field.model._meta.local_concrete_fields if f is not field] if self.wanted else []
        target = field.target_model
        # A multi-table child's columns lie in two tables; that one is left to load on access.
        flat = field.link is not None and not target._meta.parents
        self.linked = list(target._meta.local_concrete_fields) if self.wanted and flat else []
        self.reads = [self._read_of(fields) for fields in (self.own, self.linked)]

    def columns(self) -> list[str]:
        quote = self.connection.ops.quote_name
        return [f"owner.{quote(f.column)}" for f in self.own] + [f"linked.{quote(f.column)}" for f in self.linked]

    def joins(self) -> str:
        """SQL that joins the rows to ``hits``, by its column ``pk``."""
        if not self.wanted:
            return ""
        quote = self.connection.ops.quote_name
        opts = self.field.model._meta
        joins = f" JOIN {quote(opts.db_table)} AS owner ON owner.{quote(opts.pk.column)} = hits.pk"
        if self.linked:
            link = self.field.link
            assert link is not None
            target = link.related_model._meta
            remote = link.target_field.column
            joins += f" JOIN {quote(target.db_table)} AS linked ON linked.{quote(remote)} = owner.{quote(link.column)}"
        return joins

    def read(self, values: tuple[Any, ...]) -> models.Model | None:
        """The owning row, its vector deferred and its picture's row set."""
        if not self.wanted:
            return None
        row = self._instance(self.model, self.reads[0], values[: len(self.own)])
        if self.linked:
            assert self.field.link is not None
            linked = self._instance(self.field.link.related_model, self.reads[1], values[len(self.own) :])
            setattr(row, self.field.link.name, linked)
        return row

    def _instance(
        self, model: type[models.Model], reads: tuple[list[str], list[Any]], values: tuple[Any, ...]
    ) -> models.Model:
        names, converted = reads
        row = list(values)
        for i, column, convert in converted:
            row[i] = convert(row[i], column, self.connection)
        return model.from_db(self.connection.alias, names, row)

    def _read_of(self, fields: list[models.Field[Any, Any]]) -> tuple[list[str], list[Any]]:
        """The attributes' names, and (place, column, converter) for those values that are not taken as they come."""
        converted = []
        for i, field in enumerate(fields):
            column = field.get_col(field.model._meta.db_table)
            for convert in self.connection.ops.get_db_converters(column) + field.get_db_converters(self.connection):
                converted.append((i, column, convert))
        return [field.attname for field in fields], converted
