"""PostgreSQL's full text search over the fields that a shop names in ``TEXT_FIELDS``.

Entry function: ``full_text_matches``. Products with every word of the text match; where there are none, those with any.
Scripts without spaces between words, such as Chinese, are matched by pairs of letters, because PostgreSQL's own parser
takes a whole sentence of them for one word.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist
from django.db import connections
from django.db.models import CharField, F, Field, ForeignObject, GeneratedField, Model, QuerySet, TextField, Value
from django.db.models.functions import Cast, Coalesce, Concat

from ..conf import conf
from ..db.rows import all_rows, key_reader, raw_key
from ..db.statements import Statement, compile_query, execute_together
from ..fields import EmbeddingField
from ..learning.text import is_unspaced, runs_of
from .candidates import database_of, narrows, primary_keys

PAIR = 2
"""Letters of a run without spaces that are looked for together."""
QUERY_SIGNS = frozenset('"-')
"""Characters with a meaning of their own in PostgreSQL's ``websearch_to_tsquery``."""
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
    """Return the fault of a path of ``TEXT_FIELDS``, or None."""
    at: Any = model
    for name in path.split("__"):
        try:
            found = at._meta.get_field(name)
        except (FieldDoesNotExist, AttributeError):
            return f"{at._meta.label if hasattr(at, '_meta') else model._meta.label} has no field {name!r}"
        one = found.one_to_one or (isinstance(found, ForeignObject) and not found.one_to_many)
        if found.is_relation and not one:
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
    Products that match equally well share a rank; the best have 1. ``only``: primary keys to look at; of these, the
    products with the most words match. Empty without ``TEXT_FIELDS``. One query, or two where no product has every
    word; with ``only`` always one.
    """
    paths = text_paths(field.product_model)
    if not paths or (only is not None and not only):
        return {}
    parts = runs_of(text)
    words = [part for part in parts if not is_unspaced(part)][:MOST_PARTS]
    pairs = _pairs([part for part in parts if is_unspaced(part)])
    if not words and not pairs:
        return {}
    spoken = " ".join(words) if pairs else text  # quotes and minus signs, as on the web
    # A phrase and a minus sign mean something to a query for every word only.
    tried = (False,) if only is not None and not QUERY_SIGNS & set(spoken) else (True, False)
    using = database_of(field, within)
    read = key_reader(field.product_model, using)
    found: list[tuple[Any, float]] = []
    for every in tried:
        try:
            statement = _statement(
                field, using, paths, _Parts(spoken, words, pairs, every, graded), within, only, limit
            )
        except EmptyResultSet:
            return {}
        found = [(read(pk), rank) for pk, rank in execute_together(connections[using], [statement])[0]]
        if found or len(words) + len(pairs) < 2:
            break
    if tried == (False,):
        found = [(pk, rank) for pk, rank in found if int(rank) == int(found[0][1])]
    return _places(found)


class _Parts(NamedTuple):
    """The words to look for."""

    spoken: str
    """The words as they were written, with quotes and minus signs."""
    words: Sequence[str]
    pairs: Sequence[str]
    every: bool
    """Whether all words and pairs must be found, or any."""
    graded: bool


def _statement(
    field: EmbeddingField,
    using: str,
    paths: Sequence[str],
    parts: _Parts,
    within: QuerySet[Any],
    only: Collection[Any] | None,
    limit: int,
) -> Statement:
    """Return SQL for (product's key, rank), the larger the better. Raises EmptyResultSet for an empty ``within``."""
    texts, params = _texts_statement(field.product_model, tuple(paths), conf.TEXT_LANGUAGE, using)
    wheres: list[Statement] = []
    if narrows(within, field):
        keys = primary_keys(within)
        wheres.append(_one_of(field, keys, using) if isinstance(keys, list) else _in(compile_query(keys, using)))
    if only is not None:
        wheres.append(_one_of(field, only, using))

    language, like = conf.TEXT_LANGUAGE, connections[using].ops.prep_for_like_query
    each: list[Statement] = [("plainto_tsquery(%s::regconfig, %s)", (language, word)) for word in parts.words]
    query = _join_statements(" || ", each)
    if parts.every:
        query = ("websearch_to_tsquery(%s::regconfig, %s)", (language, parts.spoken))
    has_pair: list[Statement] = [("text LIKE %s", (f"%{like(pair)}%",)) for pair in parts.pairs]
    conditions = ([_around("words @@ ({})", query)] if parts.words else []) + has_pair
    wheres.append(_around("({})", _join_statements(" AND " if parts.every else " OR ", conditions)))

    ranks: list[Statement] = [("0.0", ())]
    if not parts.every:
        found = [_around("words @@ {}", word) for word in each] + has_pair
        ranks += [_around("CASE WHEN {} THEN 1 ELSE 0 END", one) for one in found]
    if parts.words and parts.graded:
        ranks.append(_around("ts_rank(words, {})", query))  # below 1
    where, rank = _join_statements(" AND ", wheres), _join_statements(" + ", ranks)
    columns = ", ".join(["m.pk", *["words"] * bool(parts.words), *["text"] * bool(parts.pairs)])
    # OFFSET 0 keeps PostgreSQL from computing the words of a match again for each part of its rank.
    sql = (
        f"SELECT pk, ({rank[0]})::float8 AS rank FROM (SELECT {columns} FROM ({texts}) AS m (pk, words, text) "
        f"WHERE {where[0]} OFFSET 0) AS matching ORDER BY rank DESC, pk LIMIT {limit:d}"
    )
    return sql, (*rank[1], *params, *where[1])


@functools.lru_cache(maxsize=64)
def _texts_statement(model: type[Model], paths: tuple[str, ...], language: str, using: str) -> Statement:
    """Return SQL for (key, words, text) of each product; ``words`` as in an index of the same SearchVector."""
    stored = len(paths) == 1 and isinstance(output_of(field_at(model, paths[0])), SearchVectorField)
    words: Any = F(paths[0]) if stored else SearchVector(*paths, config=language)
    texts = [Coalesce(Cast(path, TextField()), Value("", TextField())) for path in paths]
    text = Concat(*texts, Value("", TextField()), output_field=TextField())
    rows = all_rows(model, using).annotate(_visual_words=words, _visual_text=text)
    return compile_query(rows.values_list("pk", "_visual_words", "_visual_text"), using)


def _in(keys: Statement) -> Statement:
    return _around("m.pk IN ({})", keys)


def _one_of(field: EmbeddingField, keys: Collection[Any], using: str) -> Statement:
    return "m.pk = ANY(%s)", ([raw_key(field.product_model, key, using) for key in keys],)


def _join_statements(operator: str, parts: Sequence[Statement]) -> Statement:
    return operator.join(sql for sql, _ in parts), tuple(value for _, params in parts for value in params)


def _around(template: str, part: Statement) -> Statement:
    return template.format(part[0]), part[1]


def _places(found: Sequence[tuple[Any, float]]) -> dict[Any, int]:
    """Return the place of each primary key by its rank, where equal ones share a place."""
    places: dict[Any, int] = {}
    place, before = 0, None
    for number, (pk, rank) in enumerate(found, 1):
        if rank != before:
            place, before = number, rank
        places.setdefault(pk, place)
    return places


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
    """Return the field of a column's values; for a generated column, the field of its expression."""
    return column.output_field if isinstance(column, GeneratedField) else column
