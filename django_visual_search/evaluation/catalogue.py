"""The pictures of a field as training and evaluation see them: whose they are, and what they are labelled with.

What queries are told apart by, such as categories, in the words of people.

Which pictures are measured with: a seeded sample, so that measuring ends in minutes however large the shop is.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import Manager, Model
from numpy.typing import NDArray

from ..fields import EmbeddingField


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

    def sample(self, most: int, seed: int = 0) -> Catalogue:
        """At most so many of the pictures, those of a product together; all of them if there aren't more."""
        if len(self) <= most:
            return self
        by_product: dict[str, list[int]] = {}
        for row, product in enumerate(self.products):
            by_product.setdefault(product or f" {row}", []).append(row)
        groups, chosen = list(by_product.values()), list[int]()
        random.Random(seed).shuffle(groups)
        for group in groups:
            if len(chosen) + len(group) <= most:
                chosen += group
        return self.only(sorted(chosen))

    def only(self, rows: Sequence[int]) -> Catalogue:
        """The pictures in these rows."""
        return Catalogue(
            [self.keys[i] for i in rows],
            [self.images[i] for i in rows],
            [self.products[i] for i in rows],
            {path: [values[i] for i in rows] for path, values in self.labels.items()},
        )


def read_catalogue(
    embedding: EmbeddingField, labels: Sequence[str] = (), *, limit: int | None = None, within: Any = None
) -> Catalogue:
    """All pictures of the field, or the first ``limit``, with their products' labels.

    ``labels``: paths from the product, such as ``"category"`` or ``"category__parent__name"``; over a many-to-many
    relation a picture has the first by primary key. ``within``: a queryset of products; None for all.
    Raises LookupError for a path that the product doesn't have, saying which there are.
    """
    for path in labels:
        _check_path(embedding.product_model, path)
    using = router.db_for_read(embedding.model)
    rows = embedding.target_model._base_manager.using(using).order_by("pk")
    rows = rows.exclude(**{f"{embedding.image_field.name}__isnull": True}).exclude(**{embedding.image_field.name: ""})
    keys_of = _products_by_key(embedding, using)
    products = embedding.product_model._base_manager.using(using) if within is None else within
    if isinstance(products, Manager):
        products = products.all()
    named: dict[str, dict[Any, str]] = {path: {} for path in labels}
    there = set()
    if labels or within is not None:
        for pk, *values in products.order_by("pk").values_list("pk", *labels):
            there.add(pk)
            for path, value in zip(labels, values, strict=True):
                named[path].setdefault(pk, "" if value is None else str(value))
    found = Catalogue([], [], [], {path: [] for path in labels})
    for key, image in rows.values_list("pk", embedding.image_field.name).iterator():
        product = key if keys_of is None else keys_of.get(key)
        if within is not None and product not in there:
            continue
        if limit is not None and len(found) >= limit:
            break
        found.keys.append(key)
        found.images.append(image)
        found.products.append("" if product is None else str(product))
        for path in labels:
            found.labels[path].append(named[path].get(product, ""))
    return found


def _products_by_key(embedding: EmbeddingField, using: str) -> dict[Any, Any] | None:
    """Primary key of a picture's row -> that of its product; None where they are the same."""
    path = _path_to_product(embedding)
    if path is None:
        return None
    if not path.startswith("~"):
        rows = embedding.target_model._base_manager.using(using)
        return dict(rows.values_list("pk", path))
    owners = embedding.model._base_manager.using(using)
    assert embedding.link is not None
    return dict(owners.values_list(f"{embedding.link.name}__pk", path[1:]))


def _path_to_product(embedding: EmbeddingField) -> str | None:
    """From the row that has the picture to the product's key: None where it is the row's own.

    A companion's product is mostly reached through its picture. Where it isn't, the path begins at the companion and
    is marked by a ``~``; pictures without a companion are then without a product.
    """
    if embedding.product is None:
        return None if embedding.link is None else "~pk"
    if embedding.link is None:
        return f"{embedding.product}__pk"
    head, _, tail = embedding.product.partition("__")
    if head == embedding.link.name:
        return f"{tail}__pk" if tail else None
    return f"~{embedding.product}__pk"


def _check_path(model: type[Model], path: str) -> None:
    at: Any = model
    for name in path.split("__"):
        try:
            at = at._meta.get_field(name)
        except (FieldDoesNotExist, AttributeError) as e:
            names = ", ".join(sorted(f.name for f in model._meta.get_fields() if f.concrete and not f.primary_key))
            raise LookupError(f"{model._meta.label} has no {path!r} to learn from. It has: {names}.") from e
        at = at.related_model or at


NAMES = ("name", "title")
USUAL = "category"


def usual_labels(model: type[Model]) -> list[str]:
    """``["category"]`` where the product has one, else nothing."""
    try:
        model._meta.get_field(USUAL)
    except FieldDoesNotExist:
        return []
    return [USUAL]


def paths_of(model: type[Model], labels: Sequence[str]) -> list[str]:
    """The paths to read for these labels: each one, and for a relation the name of what it leads to."""
    return [path for label in labels for path in (label, _named(model, label)) if path]


def by_name(model: type[Model], catalogue: Catalogue, labels: Sequence[str]) -> dict[str, list[str]]:
    """By label: a name a picture, "" for none. Two things of one name stay two."""
    return {label: _names(catalogue, label, _named(model, label)) for label in labels}


def _names(catalogue: Catalogue, label: str, named: str | None) -> list[str]:
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


def _named(model: type[Model], path: str) -> str | None:
    """The path to the name of what ``path`` leads to; None where it leads to no row, or to one without a name."""
    at: Any = model
    for part in path.split("__"):
        try:
            at = at._meta.get_field(part)
        except (FieldDoesNotExist, AttributeError):
            return None  # read_catalogue says what is wrong with it
        at = at.related_model or at
    if not hasattr(at, "_meta"):  # a column
        return None
    names = {field.name for field in at._meta.get_fields()}
    return next((f"{path}__{name}" for name in NAMES if name in names), None)


Indices = NDArray[np.intp]

FEWEST = 2
"""Pictures of a product that has as many: with one alone, none of its others could be found."""


def sample(products: Sequence[str], limit: int, seed: int = 0) -> Indices:
    """At most ``limit`` pictures, of as many products as can be, ascending.

    ``products``: whose each picture is; "" for those of none, which are left out. Where a product has many pictures,
    some of them are drawn. Raises ValueError for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"The limit must be at least 1 picture, not {limit}.")
    by_product: dict[str, list[int]] = defaultdict(list)
    for row, product in enumerate(products):
        if product:
            by_product[product].append(row)
    owned = list(by_product.values())
    if sum(map(len, owned)) <= limit:
        return np.sort(np.array([row for rows in owned for row in rows], np.intp))
    rng = np.random.default_rng(seed)
    most = _most([len(rows) for rows in owned], limit)
    chosen: list[int] = []
    for i in rng.permutation(len(owned)):
        rows = owned[i]
        drawn = rng.permutation(rows)[:most] if len(rows) > most else rows
        if len(chosen) + len(drawn) > limit:
            if len(chosen) == limit:
                break
            # One picture of a product that has others would be a query with nothing to find.
            if len(rows) > 1 and limit - len(chosen) < FEWEST and chosen:
                continue
        chosen += [int(row) for row in drawn[: limit - len(chosen)]]
    return np.sort(np.array(chosen, np.intp))


def _most(counts: list[int], limit: int) -> int:
    """Pictures of one product at most: as many as let all products in, and FEWEST at least."""
    sizes = np.array(counts)
    fitting = [most for most in range(FEWEST, max(counts) + 1) if np.minimum(sizes, most).sum() <= limit]
    return max(fitting, default=FEWEST)


def pictures_each(products: Sequence[str]) -> NDArray[np.intp]:
    """For each picture, how many there are of its product; 0 for those of none."""
    counts: dict[str, int] = defaultdict(int)
    for product in products:
        counts[product] += 1
    return np.array([counts[product] if product else 0 for product in products], np.intp)
