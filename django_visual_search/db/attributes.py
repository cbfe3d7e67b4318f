"""Attributes of a product that staff name: a path from it, such as ``category`` or ``brand__name``, and a value.

Entry functions: ``attribute_value`` checks both, ``rows_with`` gives the rows, ``rows_with_sql`` their keys as SQL. A
value is text; at the end of a path that leads to another row, it is the primary key of that row.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError, ValidationError
from django.db.models import Field, Model, QuerySet

from .rows import all_rows
from .statements import Statement, compile_query

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
