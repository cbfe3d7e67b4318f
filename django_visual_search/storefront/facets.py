"""Facets: the numbers of hits by category, brand or another field that the shop names.

``count_facets`` counts, ``narrowed`` filters. A *path* is a field (``category``, ``is_new``) or leads over relations to
one (``brand__country``, ``tags__name``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet

from ..db.rows import all_rows, follow_path
from ..fields import EmbeddingField
from ..search.candidates import unlimited
from ..search.results import Ranking
from .visibility import all_of, is_rigid

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
    columns = {path: _grouped_columns(within.model, path) for path in paths}
    together = [column for path, (_, many, names) in columns.items() if not many for column in (path, *names)]
    rows = list(_rows_of_keys(within, keys, *together)) if together and keys else []
    counted, first = {}, 1
    for path, (last, many, names) in columns.items():
        if many:
            counted[path] = _count(
                last, (), [(value,) for _, value in set(_rows_of_keys(within, keys, path))], within.db
            )
        else:
            after = first + 1 + len(names)
            counted[path] = _count(last, names, [row[first:after] for row in rows], within.db)
            first = after
    return counted


def narrowed(within: QuerySet[Any], path: str, value: str) -> QuerySet[Any]:
    """Return the products that have a facet's value, as a URL carries it: text, empty for none.

    No products for a value that the field can't have. Raise FieldDoesNotExist for a wrong path.
    """
    last, many = follow_path(within.model, path)
    try:
        wanted = (last.target_field if last.is_relation else last).to_python(value) if value else None
    except ValidationError:
        return within.none()
    condition = {f"{path}__isnull": True} if wanted is None else {path: wanted}
    if many or is_rigid(within):
        return all_of(within).filter(pk__in=all_rows(within.model).filter(**condition).values("pk"))
    return within.filter(**condition)


def facet_name(model: type[Model], path: str) -> str:
    """Return a facet's name for people. Raise FieldDoesNotExist for a wrong path."""
    last, _ = follow_path(model, path)
    return str(getattr(last, "verbose_name", None) or last.related_model._meta.verbose_name)


def facet_label(model: type[Model], path: str, value: str) -> str:
    """Return the name of a facet's value that no hit has; the value itself if it has no name."""
    last, _ = follow_path(model, path)
    if not last.is_relation:
        return str(dict(getattr(last, "flatchoices", ())).get(value, value))
    try:
        found = last.related_model._default_manager.filter(pk=value).first()
    except (ValidationError, ValueError):
        found = None
    return value if found is None else str(found)


def _grouped_columns(model: type[Model], path: str) -> tuple[Any, bool, tuple[str, ...]]:
    """Return a path's last field, whether a product has several values, and the related row's columns."""
    last, many = follow_path(model, path)
    if many or not last.is_relation:
        return last, many, ()
    return last, many, tuple(f"{path}__{column.attname}" for column in last.related_model._meta.concrete_fields)


def _rows_of_keys(within: QuerySet[Any], keys: list[Any], *paths: str) -> QuerySet[Any, Any]:
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
