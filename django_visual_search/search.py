"""The two questions: what looks like this product, and what looks like this photo."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from django.db.models import Model

from . import images
from .backends import extractor_of
from .candidates import fetch, product_pk, products
from .conf import conf
from .fields import EmbeddingField
from .nearest import Query, nearest, similarity
from .registry import fields_of_product, get_field, named_model
from .results import SearchHit, SearchResults

__all__ = ["SearchHit", "SearchResults", "search_by_image", "similar_to"]


def similar_to(
    product: Model,
    *,
    limit: int = 12,
    within: Any = None,
    field: str | None = None,
    min_similarity: float | None = None,
) -> SearchResults:
    """Products that look like ``product`` (or like the picture of a given companion row), nearest first, never itself.

    ``within``: a queryset of products to stay in; its ``select_related`` and ``prefetch_related`` are honoured.
    ``field``: label of the embedding field, needed only where products have several. A product with several pictures is
    represented by the first of them that has a vector, in the owning model's default order.
    Empty, not an error, where the product has no vector yet. At most three queries, and those of ``prefetch_related``.
    Raises LookupError for an unknown field and ValueError for a bad limit or ``within``.
    """
    _check_limit(limit)
    found = get_field(field) if field else _only_field(product)
    query, product_pk = _own_vector(found, product)
    return _answer(found, query, limit, within, min_similarity, ["product", str(product_pk)], product_pk, type(product))


def search_by_image(
    file: bytes | BinaryIO,
    label: str,
    *,
    limit: int = 12,
    within: Any = None,
    crop: tuple[float, float, float, float] | None = None,
    min_similarity: float | None = None,
) -> SearchResults:
    """Products that look like a photo, nearest first.

    ``label``: the embedding field, ``app.Model.field`` (or ``app.Model`` where that is clear).
    ``crop``: ``(x0, y0, x1, y1)`` as fractions of the photo as a person sees it. ``within``: as for ``similar_to``.
    Raises images.ImageRefused for what is not accepted as a photo, ExtractorUnavailable where the extractor can't run,
    LookupError for an unknown label, and ValueError for a bad limit or ``within``.
    """
    _check_limit(limit)
    field = get_field(label)
    extractor = extractor_of(field)
    spec = extractor.spec
    picture = images.load(file, options=spec.images, crop=crop, size=spec.input_size)
    vector = extractor(np.asarray(picture)[None])[0]
    return _answer(field, Query(vector, spec.key), limit, within, min_similarity, ["photo"], model=named_model(label))


def _answer(
    field: EmbeddingField,
    query: Query,
    limit: int,
    within: Any,
    min_similarity: float | None,
    asked: list[Any],
    exclude: Any = None,
    model: type[Model] | None = None,
) -> SearchResults:
    queryset = products(field, within, model)
    neighbours, exact, extractor_key = nearest(field, query, limit=limit, within=queryset, exclude=exclude)
    near = [(neighbour, similarity(field, neighbour.distance)) for neighbour in neighbours]
    if min_similarity is not None:
        near = [(neighbour, score) for neighbour, score in near if score >= min_similarity]
    found = fetch(field, queryset, [neighbour.product_pk for neighbour, _ in near])
    hits: list[SearchHit] = []
    for neighbour, score in near:
        product = found.get(neighbour.product_pk)
        if product is not None:  # deleted since the rows were read
            row = product if neighbour.row is None else neighbour.row
            hits.append(SearchHit(product, row, score, len(hits) + 1))
    return SearchResults(hits, label=field.label, extractor_key=extractor_key, exact=exact, query=asked)


def _own_vector(field: EmbeddingField, instance: Model) -> tuple[Query, Any]:
    """The query, and the primary key of the product it is about."""
    if isinstance(instance, field.model):
        # An instance may be older than its vector; an attribute that was never set would cost a query of its own.
        known = instance.__dict__.get(field.attname), instance.__dict__.get(field.key_name)
        pk = instance.pk
        if field.product:
            pk = field.model._base_manager.filter(pk=instance.pk).values_list(product_pk(field), flat=True).first()
        if known[0] is not None and known[1]:
            return Query(known[0], known[1].partition(":")[0]), pk
        rows = field.model._base_manager.filter(pk=instance.pk)
    else:
        pk = instance.pk
        rows = field.model._default_manager.filter(**{product_pk(field): pk})
    embedded = rows.filter(**{f"{field.name}__isnull": False, f"{field.key_name}__isnull": False})
    if not embedded.ordered:
        embedded = embedded.order_by("pk")
    return Query(stored=embedded.values_list(field.name, field.key_name)[:1]), pk


def _only_field(product: Model) -> EmbeddingField:
    fields = fields_of_product(type(product))
    for field in fields:
        if isinstance(product, field.model):
            return field
    if fields:
        return fields[0]
    return get_field(type(product)._meta.label)


def _check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= conf.MAX_LIMIT:
        raise ValueError(f"limit must be a whole number from 1 to {conf.MAX_LIMIT}, not {limit!r}.")
