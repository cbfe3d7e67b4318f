"""What a search may find: rows of the table that owns the vectors, under the caller's queryset of products.

Entry functions: ``products``, ``listed`` for the search's statement, and ``fetch`` for the products that it found.
"""

from __future__ import annotations

import functools
from typing import Any

from django.db import router
from django.db.models import ForeignKey, Manager, Model, OneToOneRel, QuerySet
from django.db.models.sql.datastructures import BaseTable

from ..db.rows import all_rows, is_plain, plain
from ..db.statements import Statement, compile_query
from ..fields import EmbeddingField
from ..fields.keys import in_space
from ..fields.products import with_product


def products(field: EmbeddingField, within: Any | None, model: type[Model] | None = None) -> QuerySet[Any]:
    """Return ``within`` as a queryset of the field's products; None means all of the default manager of ``model``.

    ``model``: the products' model or a child or proxy of it. Raises ValueError for a ``within`` that doesn't yield
    products of this field.
    """
    if within is None:
        named = model if model is not None and issubclass(model, field.product_model) else field.product_model
        return named._default_manager.all()
    if isinstance(within, Manager):
        within = within.all()
    if not isinstance(within, QuerySet):
        raise ValueError(
            f"'within' must be a queryset of {field.product_model._meta.label}, not {type(within).__name__}."
        )
    mine, theirs = field.product_model._meta.concrete_model, within.model._meta.concrete_model
    if not (issubclass(mine, theirs) or issubclass(theirs, mine)):
        raise ValueError(
            f"'within' has {within.model._meta.label} rows, but {field.label} finds {field.product_model._meta.label}."
        )
    if within._fields is not None:
        raise ValueError("'within' must yield products, without .values() or .values_list().")
    if within.query.select_for_update:  # a search locks nothing, and needs no transaction
        within = within._chain()
        within.query.select_for_update = False
    return within


def database_of(field: EmbeddingField, within: QuerySet[Any]) -> str:
    """Return the alias of the database to search: the one that ``within`` names, or the router's."""
    return str(within._db or router.db_for_read(field.model))


def catalogue_model(field: EmbeddingField, model: type[Model]) -> type[Model]:
    """Return the model whose default manager has the catalogue in which products of ``model`` find similar ones.

    A proxy has a manager of its own for that. A child's knows only its own kind, and so do those of django-polymorphic.
    """
    is_proxy = issubclass(model, field.product_model) and model._meta.concrete_model is field.product_model
    return model if is_proxy and not hasattr(model, "polymorphic_model_marker") else field.product_model


def candidates(field: EmbeddingField, within: QuerySet[Any]) -> tuple[QuerySet[Any], bool]:
    """Return the rows whose product is in ``within``, and whether that narrows them.

    Starts from the table that owns the vector column: the other way round, a join hides the ANN index.
    """
    everything = _is_everything(within, field)
    if field.product is None and is_plain(within) and _narrows_only(within, field):
        rows = _bare(plain(within))
    else:
        rows, path = with_product(field, all_rows(field.model).order_by())
        if not everything or field.product is None:
            rows = rows.filter(**{f"{path}__in": primary_keys(within)})
        else:
            rows = rows.filter(**{f"{path}__isnull": False})
    return rows, not everything


def listed(field: EmbeddingField, within: QuerySet[Any], using: str) -> tuple[Statement, bool]:
    """Return the candidates as SQL, and whether ``within`` narrows them.

    The SQL gives (row's key, product's key, vector, vector's key). Raises EmptyResultSet where Django knows that
    nothing matches.
    """
    if _is_everything(within, field):
        return _all_listed(field, using), False
    rows, narrowed = candidates(field, within)
    return _compiled(field, rows, using), narrowed


@functools.cache
def _all_listed(field: EmbeddingField, using: str) -> Statement:
    rows, _ = candidates(field, QuerySet(field.product_model))
    return _compiled(field, rows, using)


def _compiled(field: EmbeddingField, rows: QuerySet[Any], using: str) -> Statement:
    rows, product = with_product(field, rows)
    return compile_query(rows.values_list("pk", product, field.name, field.key_name), using)


def narrows(within: QuerySet[Any], field: EmbeddingField) -> bool:
    """Return whether ``within`` may leave out products."""
    return not _is_everything(within, field)


def _is_everything(within: QuerySet[Any], field: EmbeddingField) -> bool:
    """Return whether ``within`` keeps every product: a child's queryset, for one, narrows without a condition."""
    query = within.query
    narrowed = query.where or query.is_sliced or query.combinator or query.distinct_fields or query.extra_tables
    return not narrowed and is_plain(within) and issubclass(field.product_model, within.model._meta.concrete_model)


def embedded(field: EmbeddingField, rows: QuerySet[Any], extractor_key: str, exclude: Any) -> QuerySet[Any]:
    """Return the rows that have a vector of that space, and whose product is not ``exclude``."""
    if exclude is not None:
        rows, product = with_product(field, rows)
        rows = rows.exclude(**{product: exclude})
    return rows.filter(in_space(field.key_name, extractor_key), **{f"{field.name}__isnull": False})


def fetch(field: EmbeddingField, within: QuerySet[Any], keys: list[Any]) -> dict[Any, Any]:
    """Return the products with these keys, by key, as ``within`` selects and prefetches them: one query and prefetches.

    Their vectors are deferred: reading them takes as long as the rest of the query.
    """
    found = unlimited(within)
    if issubclass(found.model, field.model):
        found = found.defer(field.name)
    return {product.pk: product for product in found.filter(pk__in=keys)} if keys else {}


def unlimited(within: QuerySet[Any]) -> QuerySet[Any]:
    """Return ``within`` without its order and limits, so that some of its rows can be selected by their keys."""
    if within.query.combinator:
        return all_rows(within.model, within._db).filter(pk__in=primary_keys(within))
    found = within._chain()
    found.query.clear_limits()
    found.query.distinct_fields = ()
    return found.order_by()


def fetch_rows(field: EmbeddingField, keys: list[str], using: str) -> dict[str, Any]:
    """Return the rows that own the vectors, with their pictures' rows, by key as text; none where products own them."""
    if field.product is None or not keys:
        return {}
    rows = all_rows(field.model, using).defer(field.name)
    if field.link is not None:
        rows = rows.select_related(field.link.name)
    return {str(row.pk): row for row in rows.filter(pk__in=keys)}


def _narrows_only(within: QuerySet[Any], field: EmbeddingField) -> bool:
    """Return whether a condition added to ``within`` itself repeats and changes none of its other rows."""
    query = within.query
    if within.model._meta.concrete_model is not field.model or query.is_sliced or query.combinator or query.distinct:
        return False
    if query.group_by is not None or query.extra or query.annotations:
        return False
    return all(
        # A generic relation's field says many_to_one too.
        isinstance(table, BaseTable) or isinstance(table.join_field, ForeignKey | OneToOneRel)
        for table in query.alias_map.values()
    )


def primary_keys(within: QuerySet[Any]) -> Any:
    """Return the primary keys of a queryset's rows for ``pk__in``: a subquery of one column.

    A list of them where that is combined of several (``union``) and sliced: its order then decides which rows it has,
    and Django would add the columns of that order to the subquery's.
    """
    query = within.query
    if query.combinator and query.is_sliced:
        return [product.pk for product in within]
    if query.combinator:
        return within.order_by().values("pk")
    ordered = query.is_sliced or bool(query.distinct_fields)
    return _bare(plain(within) if is_plain(within) else within, ordered).values("pk")


def _bare(within: QuerySet[Any], ordered: bool = False) -> QuerySet[Any]:
    """Return ``within`` without the parts that only matter for reading the products."""
    rows = within.select_related(None).prefetch_related(None)
    return rows if ordered else rows.order_by()
