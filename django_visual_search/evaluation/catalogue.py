"""The pictures of a field as training and evaluation see them: whose they are, and what they are labelled with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import Manager, Model

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
