"""Facets: how many of the hits have which category, brand or whatever else the viewset names.

``count_facets`` counts. A *path* is a field (``category``, ``is_new``) or leads over relations to one
(``brand__country``, ``tags__name``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model, QuerySet

from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..search.candidates import unlimited
from ..search.results import Ranking

FacetValues = list[dict[str, Any]]


def count_facets(
    paths: Iterable[str], field: EmbeddingField, within: QuerySet[Any], ranking: Ranking
) -> dict[str, FacetValues]:
    """Return for each path the values among the ranking's products that are in ``within``, most frequent first.

    A value has ``value``, ``label`` (the choice's name, the related object as text) and ``count``, the number of
    products. One query, and one for each path over which a product has several values. Raise
    django.core.exceptions.FieldDoesNotExist for a wrong path.
    """
    to_python = field.product_model._meta.pk.to_python
    keys = [to_python(place.product_pk) for place in ranking.places]
    columns = {path: _columns(within.model, path) for path in paths}
    together = [column for path, (_, many, names) in columns.items() if not many for column in (path, *names)]
    rows = list(_rows(within, keys, *together)) if together and keys else []
    counted, first = {}, 1
    for path, (last, many, names) in columns.items():
        if many:
            counted[path] = _count(last, (), [(value,) for _, value in set(_rows(within, keys, path))], within.db)
        else:
            after = first + 1 + len(names)
            counted[path] = _count(last, names, [row[first:after] for row in rows], within.db)
            first = after
    return counted


def _columns(model: type[Model], path: str) -> tuple[Any, bool, tuple[str, ...]]:
    """Return a path's last field, whether a product has several values, and the related row's columns."""
    last, many = _follow(model, path)
    if many or not last.is_relation:
        return last, many, ()
    return last, many, tuple(f"{path}__{column.attname}" for column in last.related_model._meta.concrete_fields)


def _follow(model: type[Model], path: str) -> tuple[Field[Any, Any], bool]:
    """Return the last field of a path, and whether a relation on it leads to several rows."""
    many = False
    for name in path.split("__"):
        if model is None:
            raise FieldDoesNotExist(f"{path!r} continues after a field that is not a relation.")
        found: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
        many = many or bool(found.many_to_many or found.one_to_many)
        model = found.related_model
    return found, many


def _rows(within: QuerySet[Any], keys: list[Any], *paths: str) -> QuerySet[Any, Any]:
    """Return (primary key of a product, *values at the paths): a row for each value that a product has."""
    # Through a second query, as a filter of the first on the same relation would narrow which of its rows are counted.
    visible = unlimited(within).filter(pk__in=keys).values("pk")
    return all_rows(within.model).filter(pk__in=visible).values_list("pk", *paths)


def _count(last: Any, columns: Iterable[str], rows: list[tuple[Any, ...]], using: str) -> FacetValues:
    """Return the counts. ``rows``: a value for each product, followed by the columns of a related row."""
    counts = Counter(value for value, *_ in rows)
    if columns:
        related = {value: row for value, *row in rows if value is not None}
        names = [column.rpartition("__")[2] for column in columns]
        labels = {value: str(last.related_model.from_db(using, names, row)) for value, row in related.items()}
    else:
        choices = dict(getattr(last, "flatchoices", ()))
        labels = {value: str(choices.get(value, value)) for value in counts if value is not None}
    # Equal counts in the order of their names, so that the same hits always give the same response.
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, labels.get(item[0])))
    return [{"value": value, "label": labels.get(value), "count": count} for value, count in order]
