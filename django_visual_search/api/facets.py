"""Text beside a photo narrows what is searched, as a search box over the viewset's ``search_fields`` would.

How many of the hits have which category, brand or whatever else the viewset names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model, QuerySet
from rest_framework.filters import SearchFilter, search_smart_split
from rest_framework.request import Request

from ..fields import EmbeddingField
from ..search.candidates import unlimited
from ..search.results import Ranking


class TextFilter(SearchFilter):
    """DRF's own, with the text given instead of read from the address."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_search_terms(self, request: Request) -> list[str]:
        terms: list[str] = search_smart_split(self.text)
        return terms


def narrowed(queryset: QuerySet[Any], text: str, request: Request, view: Any) -> QuerySet[Any]:
    """Of the products those whose ``search_fields`` have every word of the text."""
    return TextFilter(text).filter_queryset(request, queryset, view)


Facet = list[dict[str, Any]]


def facets(paths: Iterable[str], field: EmbeddingField, within: QuerySet[Any], ranking: Ranking) -> dict[str, Facet]:
    """For each path the values among the products of a ranking that are in ``within``, most frequent first.

    A path is a field (``category``, ``is_new``) or leads over relations to one (``brand__country``, ``tags__name``).
    A value has ``value``, ``label`` (what it is called: the choice's name, the related object as text) and ``count``,
    the number of products. One query, and one for each path over which a product has several values. Raises
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
            counted[path] = _facet(last, (), [(value,) for _, value in set(_rows(within, keys, path))], within.db)
        else:
            after = first + 1 + len(names)
            counted[path] = _facet(last, names, [row[first:after] for row in rows], within.db)
            first = after
    return counted


def _facet(last: Any, columns: Iterable[str], rows: list[tuple[Any, ...]], using: str) -> Facet:
    """``rows``: a value for each product, and the columns of the related row where it is one."""
    counts = Counter(value for value, *_ in rows)
    if columns:
        owned = {value: row for value, *row in rows if value is not None}
        names = [column.rpartition("__")[2] for column in columns]
        labels = {value: str(last.related_model.from_db(using, names, row)) for value, row in owned.items()}
    else:
        choices = dict(getattr(last, "flatchoices", ()))
        labels = {value: str(choices.get(value, value)) for value in counts if value is not None}
    # Equal counts in the order of their names, so that the same hits always give the same answer.
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, labels.get(item[0])))
    return [{"value": value, "label": labels.get(value), "count": count} for value, count in order]


def _columns(model: type[Model], path: str) -> tuple[Any, bool, tuple[str, ...]]:
    """A path's last field, whether a product has several values, and the columns of the row that is the value."""
    last, many = _follow(model, path)
    if many or not last.is_relation:
        return last, many, ()
    return last, many, tuple(f"{path}__{column.attname}" for column in last.related_model._meta.concrete_fields)


def _rows(within: QuerySet[Any], keys: list[Any], *paths: str) -> QuerySet[Any, Any]:
    """(primary key of a product, *values at the paths), a row for each value that a product has."""
    # Through a second query, as a filter of the first on the same relation would narrow which of its rows are counted.
    there = unlimited(within).filter(pk__in=keys).values("pk")
    return within.model._base_manager.filter(pk__in=there).values_list("pk", *paths)


def _follow(model: type[Model], path: str) -> tuple[Field[Any, Any], bool]:
    """The last field of a path, and whether a relation on it leads to several rows."""
    many = False
    for name in path.split("__"):
        if model is None:
            raise FieldDoesNotExist(f"{path!r} goes on after a field that is no relation.")
        found: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
        many = many or bool(found.many_to_many or found.one_to_many)
        model = found.related_model
    return found, many
