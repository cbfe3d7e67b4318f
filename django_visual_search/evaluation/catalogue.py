"""Read the pictures of a field as training and evaluation need them: their products and their labels.

Entry functions: ``read_catalogue`` reads all pictures, or whole products up to a limit; ``sample_catalogue`` draws
pictures of as many products as possible. Both draw in the database, by a seed, so that a sample of a large shop
costs little memory. ``labels_by_name`` puts labels into words for people; ``draw_sample`` draws queries from a gallery.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import Count, F, Manager, Model, QuerySet, TextField, Value, Window
from django.db.models.functions import MD5, Cast, Coalesce, Concat, Greatest, RowNumber
from numpy.typing import NDArray

from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..fields.keys import picture_name
from ..indexing.status import product_of_picture
from ..learning.splits import Indices
from ..search.candidates import primary_keys

FEWEST_OF_PRODUCT = 2
"""Pictures drawn of a product before others get more: one alone would be a query with nothing to find."""

KEYS_AT_ONCE = 2000
"""Primary keys in one query."""


@dataclass(frozen=True)
class Catalogue:
    """Pictures in the order of their primary keys; all lists are as long as there are pictures."""

    keys: list[Any]
    """Primary keys of the rows that have the pictures."""
    images: list[str]
    """Names in the storage."""
    products: list[str]
    """Primary keys of their products, as text; empty where a picture has none."""
    labels: dict[str, list[str]] = field(default_factory=dict)
    """By path: a label a picture, as text; empty where it has none."""

    def __len__(self) -> int:
        return len(self.keys)

    def only(self, rows: Sequence[int] | Indices) -> Catalogue:
        """Return the pictures in these rows, in their order."""
        return Catalogue(
            [self.keys[i] for i in rows],
            [self.images[i] for i in rows],
            [self.products[i] for i in rows],
            {path: [values[i] for i in rows] for path, values in self.labels.items()},
        )


def read_catalogue(
    embedding: EmbeddingField,
    labels: Sequence[str] = (),
    *,
    limit: int | None = None,
    seed: int = 0,
    within: Any = None,
) -> Catalogue:
    """Read all pictures of the field, with their products' labels.

    ``limit``: draw whole products with at most so many pictures together; products with more than that are left out.
    ``labels``: paths from the product, such as ``"category"`` or ``"category__parent__name"``; over a many-to-many
    relation a picture has the first by primary key. ``within``: a queryset of products; None for all.
    Raises LookupError for a path that the product doesn't have, naming its fields.
    """
    _check_paths(embedding, labels)
    pictures = catalogue_rows(embedding, within)
    if limit is None or pictures.count() <= limit:
        return _build_catalogue(
            embedding, labels, pictures.order_by("pk").values_list(*_column_names(embedding)).iterator()
        )
    # A picture without a product is drawn by itself.
    pictures = pictures.annotate(_visual_group=Coalesce(_as_text("_visual_product"), _as_text("pk", "picture ")))
    counted = pictures.order_by().values("_visual_group").annotate(_visual_count=Count("pk"))
    too_large = list(counted.filter(_visual_count__gt=limit).values_list("_visual_group", flat=True))
    pictures = pictures.exclude(_visual_group__in=too_large).order_by(
        _random_order("_visual_group", seed), "_visual_group"
    )
    rows = list(pictures.values_list(*_column_names(embedding), "_visual_group")[: limit + 1])
    if len(rows) > limit:  # the last product may have been cut
        rows = [row for row in rows if row[-1] != rows[-1][-1]]
    return _build_catalogue(embedding, labels, sorted(row[:-1] for row in rows))


def sample_catalogue(
    embedding: EmbeddingField, labels: Sequence[str] = (), *, limit: int, seed: int = 0, within: Any = None
) -> Catalogue:
    """Draw at most ``limit`` pictures that belong to products, of as many products as possible.

    Of each product FEWEST_OF_PRODUCT are drawn before any gets more. ``labels``, ``within`` and errors: as for
    ``read_catalogue``; ValueError for a limit below 1.
    """
    _check_limit(limit)
    _check_paths(embedding, labels)
    pictures = catalogue_rows(embedding, within).filter(_visual_product__isnull=False)
    columns = _column_names(embedding)
    if pictures.count() <= limit:
        return _build_catalogue(embedding, labels, pictures.order_by("pk").values_list(*columns).iterator())
    place = Window(RowNumber(), partition_by="_visual_product", order_by=[_random_order("pk", seed), F("pk").asc()])
    pictures = pictures.annotate(_visual_place=place, _visual_count=Window(Count("pk"), partition_by="_visual_product"))
    in_turn = Greatest("_visual_place", Value(FEWEST_OF_PRODUCT))
    pictures = pictures.order_by(in_turn, _random_order("_visual_product", seed), "_visual_product", "_visual_place")
    rows = list(pictures.values_list(*columns, "_visual_place", "_visual_count")[:limit])
    if len(rows) > 1 and rows[-1][-2] == 1 < rows[-1][-1]:  # one picture of a product that has others
        rows.pop()
    return _build_catalogue(embedding, labels, sorted(row[:-2] for row in rows))


def catalogue_rows(embedding: EmbeddingField, within: Any = None) -> QuerySet[Any]:
    """Return the rows that have a picture, with their product's key as ``_visual_product``; ``within``: of products."""
    using = router.db_for_read(embedding.model)
    rows = all_rows(embedding.target_model, using)
    rows = rows.exclude(**{f"{embedding.image_path}__isnull": True}).exclude(**{embedding.image_path: ""})
    rows = rows.annotate(_visual_product=product_of_picture(embedding), _visual_image=picture_name(embedding))
    if embedding.only is not None:
        rows = rows.exclude(_visual_image="")
    if within is not None:
        products = within.all() if isinstance(within, Manager) else within
        rows = rows.filter(_visual_product__in=primary_keys(products))
    return rows


def _column_names(embedding: EmbeddingField) -> tuple[str, str, str]:
    return "pk", "_visual_image", "_visual_product"


def _random_order(name: str, seed: int) -> MD5:
    """Return an expression that orders a column's values randomly but reproducibly for a given seed."""
    return MD5(_as_text(name, f"{seed} "))


def _as_text(name: str, prefix: str = "") -> Any:
    text = Cast(name, TextField())
    return Concat(Value(prefix, TextField()), text) if prefix else text


def _build_catalogue(
    embedding: EmbeddingField, labels: Sequence[str], rows: Iterable[tuple[Any, str, Any]]
) -> Catalogue:
    keys, images, products = [list(column) for column in zip(*rows, strict=True)] or ([], [], [])
    found = Catalogue(keys, images, ["" if product is None else str(product) for product in products])
    if labels:
        named = _labels_of_products(embedding, labels, list(dict.fromkeys(products)))
        for place, path in enumerate(labels):
            found.labels[path] = [named[product][place] if product in named else "" for product in products]
    return found


def _labels_of_products(embedding: EmbeddingField, labels: Sequence[str], products: list[Any]) -> dict[Any, list[str]]:
    """Return the labels of each product, by its primary key."""
    rows = all_rows(embedding.product_model, router.db_for_read(embedding.model)).order_by("pk")
    found: dict[Any, list[str]] = {}
    for start in range(0, len(products), KEYS_AT_ONCE):
        for pk, *values in rows.filter(pk__in=products[start : start + KEYS_AT_ONCE]).values_list("pk", *labels):
            found.setdefault(pk, ["" if value is None else str(value) for value in values])
    return found


def _check_paths(embedding: EmbeddingField, paths: Sequence[str]) -> None:
    for path in paths:
        _check_path(embedding.product_model, path)


def _check_path(model: type[Model], path: str) -> None:
    at: Any = model
    for name in path.split("__"):
        try:
            at = at._meta.get_field(name)
        except (FieldDoesNotExist, AttributeError) as e:
            names = ", ".join(sorted(f.name for f in model._meta.get_fields() if f.concrete and not f.primary_key))
            raise LookupError(f"{model._meta.label} has no {path!r} to learn from. It has: {names}.") from e
        at = at.related_model or at


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"The limit must be at least 1 picture, not {limit}.")


def draw_sample(products: Sequence[str], limit: int, seed: int = 0) -> Indices:
    """Draw at most ``limit`` of the pictures as ``sample_catalogue`` does; return their rows, ascending.

    ``products``: of each picture; pictures with "" are left out. Raises ValueError for a limit below 1.
    """
    _check_limit(limit)
    owned = np.flatnonzero([product != "" for product in products])
    if len(owned) <= limit:
        return owned
    rng = np.random.default_rng(seed)
    by_product: dict[str, list[int]] = defaultdict(list)
    for row in rng.permutation(owned).tolist():
        by_product[products[row]].append(row)
    groups = list(by_product.values())
    turns = [
        (max(place, FEWEST_OF_PRODUCT), number, place, row)
        for number, group in enumerate(rng.permutation(len(groups)).tolist())
        for place, row in enumerate(groups[group], 1)
    ]
    chosen = sorted(turns)[: limit + 1]
    # A picture whose product would get its second one next.
    cut = chosen[-2][1] == chosen[-1][1] and chosen[-2][2] == 1
    rows = [row for *_, row in chosen[:limit]]
    return np.sort(np.array(rows[:-1] if cut and limit > 1 else rows, np.intp))


def pictures_each(products: Sequence[str]) -> NDArray[np.intp]:
    """Count for each picture how many its product has; 0 for pictures without a product."""
    counts: dict[str, int] = defaultdict(int)
    for product in products:
        counts[product] += 1
    return np.array([counts[product] if product else 0 for product in products], np.intp)


NAME_FIELDS = ("name", "title")


def usual_labels(model: type[Model], names: Sequence[str] = ("category",)) -> list[str]:
    """Return the names that are fields of the model."""
    fields = {one.name for one in model._meta.get_fields()}
    return [name for name in names if name in fields]


def paths_of(model: type[Model], labels: Sequence[str]) -> list[str]:
    """Return the paths to read for these labels: each one, and for a relation also the related object's name."""
    return [path for label in labels for path in (label, _name_path(model, label)) if path]


def labels_by_name(model: type[Model], catalogue: Catalogue, labels: Sequence[str]) -> dict[str, list[str]]:
    """Return by label a name for each picture, "" for none. Two objects of one name stay two."""
    return {label: _label_names(catalogue, label, _name_path(model, label)) for label in labels}


def _label_names(catalogue: Catalogue, label: str, named: str | None) -> list[str]:
    keys = catalogue.labels[label]
    if named is None:
        return keys
    names = catalogue.labels[named]
    meant: dict[str, set[str]] = defaultdict(set)
    for key, name in zip(keys, names, strict=True):
        meant[name].add(key)
    return [
        name if name and len(meant[name]) == 1 else (f"{name} ({key})".strip() if key else "")
        for key, name in zip(keys, names, strict=True)
    ]


def _name_path(model: type[Model], path: str) -> str | None:
    """Return the path to the name of the object that ``path`` leads to; None for a column or a nameless object."""
    at: Any = model
    for part in path.split("__"):
        try:
            at = at._meta.get_field(part)
        except (FieldDoesNotExist, AttributeError):
            return None  # read_catalogue raises LookupError for it
        at = at.related_model or at
    if not hasattr(at, "_meta"):  # a column
        return None
    names = {field.name for field in at._meta.get_fields()}
    return next((f"{path}__{name}" for name in NAME_FIELDS if name in names), None)
