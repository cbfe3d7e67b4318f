"""PostgreSQL's full text search over the fields that a shop names in ``TEXT_FIELDS``.

Entry function: ``full_text_matches``. Products with every word of the text match; where there are none, those with any.
Scripts without spaces between words, such as Chinese, are matched by pairs of letters, for PostgreSQL's own parser
takes a whole sentence of them for one word.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector, SearchVectorField
from django.core.exceptions import FieldDoesNotExist
from django.db.models import (
    Case,
    CharField,
    F,
    Field,
    FloatField,
    ForeignObject,
    GeneratedField,
    Model,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat

from ..conf import conf
from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..learning.text import is_unspaced, runs_of
from .candidates import database_of, narrows, primary_keys

PAIR = 2
"""Letters of a run without spaces that are looked for together."""
MOST_PARTS = 24
"""Words and pairs of letters of a text that are looked for."""


def text_paths(model: type[Model]) -> list[str]:
    """Return the sound paths of ``TEXT_FIELDS`` for the model or its nearest parent; check ``W011`` warns of others."""
    entries = {str(label).lower(): paths for label, paths in conf.TEXT_FIELDS.items()}
    for ancestor in model.__mro__:
        if hasattr(ancestor, "_meta") and ancestor._meta.label_lower in entries:
            return [path for path in entries[ancestor._meta.label_lower] if text_path_fault(model, path) is None]
    return []


def text_path_fault(model: type[Model], path: str) -> str | None:
    """Return what is wrong with a path of ``TEXT_FIELDS``, or None."""
    at: Any = model
    for name in path.split("__"):
        try:
            found = at._meta.get_field(name)
        except (FieldDoesNotExist, AttributeError):
            return f"{at._meta.label if hasattr(at, '_meta') else model._meta.label} has no field {name!r}"
        if found.is_relation and not (isinstance(found, ForeignObject) or found.one_to_one):
            return f"{name!r} leads to several rows; name a field of the product that has their words"
        at = found.related_model or found
    if hasattr(at, "_meta"):
        return f"it leads to {at._meta.label}, not to a text: write {path}__name, for example"
    if not isinstance(output_of(at), CharField | TextField | SearchVectorField):
        return "it is not a text"
    return None


def full_text_matches(
    field: EmbeddingField,
    text: str,
    within: QuerySet[Any],
    limit: int,
    *,
    only: Collection[Any] | None = None,
    graded: bool = True,
) -> dict[Any, int]:
    """Return the rank of the products that match, at most ``limit``, by primary key, best first.

    Products with more of the words rank higher; ``graded``: among those with as many, by PostgreSQL's ``ts_rank``.
    Products that match equally well share a rank; the best have 1. ``only``: primary keys to look at. Empty without
    ``TEXT_FIELDS``. One query, or two where no product has every word.
    """
    paths = text_paths(field.product_model)
    if not paths or (only is not None and not only):
        return {}
    rows = all_rows(field.product_model, database_of(field, within))
    if narrows(within, field):
        rows = rows.filter(pk__in=primary_keys(within))
    if only is not None:
        rows = rows.filter(pk__in=list(only))
    parts = runs_of(text)
    words = [part for part in parts if not is_unspaced(part)][:MOST_PARTS]
    pairs = _pairs([part for part in parts if is_unspaced(part)])
    spoken = " ".join(words) if pairs else text  # quotes and minus signs, as on the web
    for every in (True, False):
        parted = _Parts(spoken, words, pairs, every, graded)
        found = _ranked(_matching(rows, field.product_model, paths, parted), limit)
        if found or len(words) + len(pairs) < 2:
            break
    return found


class _Parts(NamedTuple):
    """What is looked for."""

    spoken: str
    """The words as they were written, with quotes and minus signs."""
    words: Sequence[str]
    pairs: Sequence[str]
    every: bool
    """Whether all words and pairs must be found, or any."""
    graded: bool


def _matching(rows: QuerySet[Any], model: type[Model], paths: Sequence[str], parts: _Parts) -> QuerySet[Any]:
    """Return the matching rows with their ``visual_rank``, the larger the better."""
    conditions, found = [], []
    rank: Any = Value(0.0, FloatField())
    if parts.words:
        language = conf.TEXT_LANGUAGE
        each = [SearchQuery(word, config=language) for word in parts.words]
        stored = len(paths) == 1 and isinstance(output_of(field_at(model, paths[0])), SearchVectorField)
        vector: Any = F(paths[0]) if stored else SearchVector(*paths, config=language)
        rows = rows.annotate(visual_words=vector)
        query: Any = SearchQuery(parts.spoken, config=language, search_type="websearch")
        if not parts.every:
            query = functools.reduce(operator.or_, each)
            found += [Q(visual_words=one) for one in each]
        conditions.append(Q(visual_words=query))
        if parts.graded:
            rank = SearchRank(F("visual_words"), query)  # below 1
    if parts.pairs:
        texts = [Coalesce(Cast(path, TextField()), Value("", TextField())) for path in paths]
        rows = rows.annotate(visual_text=Concat(*texts, Value("", TextField()), output_field=TextField()))
        has = [Q(visual_text__contains=pair) for pair in parts.pairs]
        conditions += has
        found += has if not parts.every else []
    for one in found:
        rank += Case(When(one, then=Value(1.0, FloatField())), default=Value(0.0, FloatField()))
    combine = operator.and_ if parts.every else operator.or_
    matching = rows.filter(functools.reduce(combine, conditions)) if conditions else rows.none()
    return matching.annotate(visual_rank=rank).order_by("-visual_rank", "pk")


def _ranked(matching: QuerySet[Any], limit: int) -> dict[Any, int]:
    found: dict[Any, int] = {}
    place, before = 0, None
    for number, (pk, score) in enumerate(matching.values_list("pk", "visual_rank")[:limit], 1):
        if score != before:
            place, before = number, score
        found.setdefault(pk, place)
    return found


def _pairs(runs: Sequence[str]) -> list[str]:
    pairs = [run[i : i + PAIR] for run in runs for i in range(max(1, len(run) - PAIR + 1))]
    return list(dict.fromkeys(pairs))[:MOST_PARTS]


def field_at(model: type[Model], path: str) -> Any:
    """Return the field, or the model, that a path leads to. Raises FieldDoesNotExist."""
    at: Any = model
    for name in path.split("__"):
        found = at._meta.get_field(name)
        at = found.related_model or found
    return at


def output_of(column: Any) -> Field[Any, Any]:
    """Return what a column's values are: of a generated one, the field of its expression."""
    return column.output_field if isinstance(column, GeneratedField) else column
