"""The product of a row, at the end of ``EmbeddingField.product``, and the searched product of a variant.

Entry functions: ``with_product`` and ``product_pk`` for rows of an embedding field's model, ``searched_pk`` and
``searched_key`` for products. The *searched product* of a variant is the one that searches find in its place: its
parent, where the shop's paths lead there first. A *tail* is what a path adds to the shortest one, so it leads from a
product to another: ``parent`` of ``("image__product__parent", "image__product")``.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Case, F, Model, Q, QuerySet, Subquery, When
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Coalesce

from .embedding import EmbeddingField
from .keys import SELF

PRODUCT = "_visual_product"
"""Name of the annotation with the primary key of a row's product."""


def key_path(path: str) -> str:
    """Return the path to the primary key at the end of a path, even if a foreign key refers to another column."""
    return "pk" if path in (SELF, "") else f"{path}{LOOKUP_SEP}pk"


def first_of(field: EmbeddingField, references: list[Any]) -> Any:
    """Return an expression for the first of these references to products' primary keys that is not NULL."""
    return references[0] if len(references) == 1 else Coalesce(*references, output_field=field.product_model._meta.pk)


def product_pk(field: EmbeddingField) -> Any:
    """Return an expression for the primary key of a row's product."""
    return first_of(field, [F(key_path(path)) for path in field.product_paths or (SELF,)])


def with_product(field: EmbeddingField, rows: QuerySet[Any]) -> tuple[QuerySet[Any], str]:
    """Return the rows, and the name by which conditions and ``values_list`` reach their product's primary key."""
    if len(field.product_paths) < 2:
        return rows, key_path(field.product_paths[0] if field.product_paths else SELF)
    return rows.annotate(**{PRODUCT: product_pk(field)}), PRODUCT


def picture_paths(field: EmbeddingField) -> list[str]:
    """Return the paths by which a row's picture may be a product's, the product's own picture first."""
    paths = list(field.product_paths) or [SELF]
    if SELF not in paths and issubclass(field.model, field.product_model):
        paths.append(SELF)  # a product that is its own relation has a picture of its own
    return sorted(paths, key=_steps)


def tails(field: EmbeddingField) -> list[str]:
    """Return the paths from a product to its searched product, the first that leads somewhere; "" is itself."""
    paths = [*field.product_paths]
    shortest = picture_paths(field)[0]
    if shortest not in paths:
        paths.append(shortest)
    prefix = "" if shortest == SELF else f"{shortest}{LOOKUP_SEP}"
    return [
        "" if path == shortest else path.removeprefix(prefix)
        for path in paths
        if path == shortest or path.startswith(prefix)
    ]


def _steps(path: str) -> int:
    return 0 if path == SELF else 1 + path.count(LOOKUP_SEP)


def has_variants(field: EmbeddingField) -> bool:
    """Return whether a product may have another as its searched product."""
    return tails(field)[0] != ""


def searched_pk(field: EmbeddingField, reference: type[F] = F) -> Any:
    """Return an expression for the primary key of the searched product of a product. ``reference``: or OuterRef."""
    found = tails(field)
    return first_of(field, [reference(key_path(tail)) for tail in found[: found.index("") + 1]])


def searches_itself(field: EmbeddingField) -> Q:
    """Match products that are their own searched product."""
    found = tails(field)
    return Q(**{f"{tail}__isnull": True for tail in found[: found.index("")]})


def searched_key(field: EmbeddingField, product: Model) -> Any:
    """Return the primary key of the product's searched product; one query where variants have a parent."""
    key = getattr(product, field.product_model._meta.pk.attname)
    if not has_variants(field):
        return key
    rows = QuerySet(field.product_model, using=product._state.db).filter(pk=key)
    return rows.values_list(searched_pk(field), flat=True).first() or key


def rows_of_product(field: EmbeddingField, rows: QuerySet[Any], product: Model) -> QuerySet[Any]:
    """Return the rows whose picture stands for a product, the nearest first, then in the order that ``rows`` have.

    That is a picture of its own; else one that leads to it, as a child's; else one of the product that its tails lead
    to, as its parent's.
    """
    paths, stands = picture_paths(field), sorted(tails(field), key=len)
    if len(paths) == len(stands) == 1:
        return rows.filter(**{key_path(paths[0]): product.pk})
    itself = QuerySet(field.product_model).filter(pk=product.pk)
    # Django 6.1 compares with one that is limited only.
    keys = [Subquery(itself.values(key_path(tail))[:1]) if tail else product.pk for tail in stands]
    # One condition for each path, because PostgreSQL uses no index for an OR over several tables.
    every = [QuerySet(field.model).filter(**{f"{key_path(path)}__in": keys}).order_by().values("pk") for path in paths]
    ways = [{key_path(path): key} for key in keys for path in paths]
    nearest = Case(*(When(**way, then=rank) for rank, way in enumerate(ways)), default=len(ways))
    order = rows.query.order_by or rows.model._meta.ordering or ["pk"]
    return rows.filter(pk__in=every[0].union(*every[1:])).order_by(nearest, *order)
