"""A shop's rows by Django's own querysets, their primary keys as text, and rows by an attribute.

Entry functions: ``all_rows``, ``plain``, ``follow_path``, ``key_text`` and ``key_from_text``; ``change_all``, which
changes rows without a deadlock; ``rows_with`` for an attribute that staff name. Packages give models
managers, querysets and keys of their own: django-modeltranslation's ``values_list`` gives columns in any order,
django-safedelete adds its condition when the SQL is made, django-hashid-field's keys are objects. Our SQL is built with
Django's own querysets.
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError, ValidationError
from django.db import connections, transaction
from django.db.models import Field, Model, QuerySet
from django.db.models.sql import Query

from .statements import Statement, compile_query

INTEGERS = ("smallint", "integer", "bigint")


def all_rows(model: type[Model], using: str | None = None) -> QuerySet[Any]:
    """Return all rows of a model, whatever its managers hide or add."""
    return QuerySet(model, using=using)


def is_plain(queryset: QuerySet[Any]) -> bool:
    """Return whether Django's own query class decides the rows; another may add conditions when the SQL is made."""
    return type(queryset.query) is Query


def plain(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Return the same rows, in the same order, as a queryset of Django's own classes. Not for one that is sliced."""
    model, query, using = queryset.model, queryset.query, queryset._db
    if is_plain(queryset):
        return QuerySet(model, query=query.chain(), using=using)
    rows = all_rows(model, using).filter(pk__in=queryset.order_by().values("pk"))
    return rows.order_by(*query.order_by) if query.order_by else rows


@functools.cache
def key_type(model: type[Model], using: str) -> str:
    """Return the type of the primary key's column in PostgreSQL, without its length."""
    return str(model._meta.pk.rel_db_type(connections[using]) or "").partition("(")[0]


def raw_key(model: type[Model], key: Any, using: str) -> Any:
    """Return a primary key, as an instance has it, as a parameter for SQL."""
    pk = model._meta.pk
    return pk.get_db_prep_value(pk.to_python(key), connections[using])


def key_text(model: type[Model], key: Any, using: str) -> str:
    """Return a primary key, as an instance has it, as the text that PostgreSQL's ``::text`` gives."""
    return str(raw_key(model, key, using))


def key_from_text(model: type[Model], text: str, using: str) -> Any:
    """Return the primary key, as an instance has it, from ``key_text`` or from the text of the instance's own key.

    Raises ValueError or ValidationError for text that is neither.
    """
    kind, raw = key_type(model, using), cast(Any, text)  # type: ignore[arg-type] # mypy: no hash of a class
    try:
        if kind in INTEGERS:
            raw = int(text)
        elif kind == "uuid":
            raw = uuid.UUID(text)
    except ValueError:
        return model._meta.pk.to_python(text)
    return key_reader(model, using)(raw)


def keys_from_texts(model: type[Model], texts: Iterable[str], using: str) -> list[Any]:
    """Return ``key_from_text`` of each."""
    return [key_from_text(model, text, using) for text in texts]


def stored_id(model: type[Model], text: str, using: str) -> str:
    """Return ``key_text`` of the key that pages show as ``text``; the same text where both are the same, or for none.

    Feedback, evidence and rules name products by it, because SQL compares them with keys.
    """
    if not _converters(model, using):
        return text
    try:
        return key_text(model, text, using)
    except (ValidationError, ValueError, TypeError):
        return text


def key_reader(model: type[Model], using: str) -> Callable[[Any], Any]:
    """Return a function from a key's raw value, as a cursor gives it, to the value that an instance has."""
    converters = _converters(model, using)

    def read(value: Any) -> Any:
        for convert in converters:
            value = convert(value, model._meta.pk.cached_col, connections[using])
        return value

    return read


def _converters(model: type[Model], using: str) -> list[Any]:
    connection, column = connections[using], model._meta.pk.cached_col
    return [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]


def follow_path(model: type[Model], path: str) -> tuple[Field[Any, Any], bool]:
    """Return the last field of a path, ``brand__country``, and whether a relation on it leads to several rows.

    Raise FieldDoesNotExist for a wrong path.
    """
    many = False
    for name in path.split("__"):
        if model is None:
            raise FieldDoesNotExist(f"{path!r} continues after a field that is not a relation.")
        found: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
        many = many or bool(found.many_to_many or found.one_to_many)
        model = found.related_model
    return found, many


# Changes of many rows: never wait for a lock while holding another, so that no deadlock can come of it. PostgreSQL ends
# either side of a deadlock, and it may be the shop's order.

LOCKED_TOGETHER = 1000

Change = Callable[[QuerySet[Any]], Any]


def change_free(rows: QuerySet[Any], change: Change, *, page: int = LOCKED_TOGETHER) -> list[Any]:
    """Change rows in the order of their keys, page by page; return the keys of those that someone else has locked.

    ``change`` gets a queryset of rows that are locked for it.
    """
    left: list[Any] = []
    keys = list(rows.order_by("pk").values_list("pk", flat=True)[:page])
    while keys:
        with transaction.atomic(using=rows.db):
            # Of this table alone: "OF" takes no table of another schema.
            own = all_rows(rows.model, rows.db).filter(pk__in=keys).order_by("pk")
            found = own.select_for_update(skip_locked=True, no_key=True)
            free = list(found.values_list("pk", flat=True))
            if free:
                change(rows.filter(pk__in=free))
        left += [key for key in keys if key not in set(free)]
        keys = list(rows.filter(pk__gt=keys[-1]).order_by("pk").values_list("pk", flat=True)[:page])
    return left


def change_all(rows: QuerySet[Any], change: Change, *, page: int = LOCKED_TOGETHER) -> None:
    """Change rows as ``change_free``, and then each of those that are left once its lock is free.

    Inside a transaction, the rest is changed after its end, because only the end releases locks.
    """
    left = change_free(rows, change, page=page)
    if left and connections[rows.db].in_atomic_block:
        transaction.on_commit(partial(_change_one_by_one, rows, change, left), using=rows.db, robust=True)
    else:
        _change_one_by_one(rows, change, left)


def _change_one_by_one(rows: QuerySet[Any], change: Change, keys: list[Any]) -> None:
    for key in keys:
        change(rows.filter(pk=key))


# Attributes of a product that staff name: a path from it, such as ``category`` or ``brand__name``, and a value. A value
# is text; at the end of a path that leads to another row, it is the primary key of that row.

logger = logging.getLogger("django_visual_search")


def attribute_field(model: type[Model], path: str) -> Any:
    """Return the field or relation at the end of the path. Raise LookupError, naming the attributes, for a wrong path.

    Paths follow relations in both directions, but no generic relations.
    """
    found: Any = None
    at: type[Model] | None = model
    for name in path.split("__"):
        try:
            found = at._meta.get_field(name) if at is not None else None
        except FieldDoesNotExist:
            found = None
        if found is None or (found.is_relation and not isinstance(found.related_model, type)):
            names = ", ".join(f.name for f in model._meta.get_fields() if not f.auto_created or f.concrete)
            raise LookupError(f"{model._meta.label} has no attribute {path!r}. It has: {names}.")
        at = found.related_model if found.is_relation else None
    return found


def attribute_value(model: type[Model], path: str, text: str) -> Any:
    """Return the value of the text at the end of the path. Raise LookupError or ValueError."""
    field = attribute_field(model, path)
    column: Field[Any, Any] = field.related_model._meta.pk if field.is_relation else field
    try:
        return column.to_python(text)
    except (ValidationError, TypeError, OverflowError) as e:
        raise ValueError(f"{text!r} is not a value of {path!r} of {model._meta.label}.") from e


def rows_with(model: type[Model], path: str, text: str, using: str | None = None) -> QuerySet[Any]:
    """Return the model's rows that have the value; a row may be repeated. Raise LookupError or ValueError."""
    value = attribute_value(model, path, text)
    lookup = f"{path}__pk" if attribute_field(model, path).is_relation else path
    return all_rows(model, using).filter(**{lookup: value})


@functools.lru_cache(maxsize=512)
def rows_with_sql(model: type[Model], path: str, text: str, using: str) -> Statement | None:
    """Return SQL for the primary keys of ``rows_with``; None, with a warning, for a path or value that no longer fits.

    A row that was written before its model changed must not end a shopper's search.
    """
    try:
        return compile_query(rows_with(model, path, text, using).values_list("pk"), using)
    except EmptyResultSet:
        return None
    except (LookupError, ValueError, TypeError, FieldError) as e:
        logger.warning("visual search: a ranking rule by %s=%s has no effect: %s", path, text, e)
        return None
