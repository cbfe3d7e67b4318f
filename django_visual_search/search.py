"""The two questions: what looks like this product, and what looks like this photo."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from django.db.models import Model

from . import images
from .backends import extractor_of
from .candidates import fetch, products
from .conf import conf
from .fields import EmbeddingField
from .nearest import nearest, similarity
from .registry import fields_of_product, get_field
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
    vector, key, product_pk = _own_vector(found, product)
    query = ["product", str(product_pk)]
    extractor_key = (key or "").partition(":")[0]
    if vector is None or not extractor_key:
        return SearchResults([], label=found.label, extractor_key="", exact=True, query=query)
    return _answer(found, vector, extractor_key, limit, within, min_similarity, query, exclude=product_pk)


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
    return _answer(field, vector, spec.key, limit, within, min_similarity, ["photo"])


def _answer(
    field: EmbeddingField,
    vector: Any,
    extractor_key: str,
    limit: int,
    within: Any,
    min_similarity: float | None,
    query: list[Any],
    exclude: Any = None,
) -> SearchResults:
    queryset = products(field, within)
    neighbours, exact = nearest(field, vector, extractor_key, limit=limit, within=queryset, exclude=exclude)
    near = [(neighbour, similarity(field, neighbour.distance)) for neighbour in neighbours]
    if min_similarity is not None:
        near = [(neighbour, score) for neighbour, score in near if score >= min_similarity]
    found = fetch(queryset, [neighbour.product_pk for neighbour, _ in near])
    hits: list[SearchHit] = []
    for neighbour, score in near:
        product = found.get(neighbour.product_pk)
        if product is not None:  # deleted since the rows were read
            row = product if neighbour.row is None else neighbour.row
            hits.append(SearchHit(product, row, score, len(hits) + 1))
    return SearchResults(hits, label=field.label, extractor_key=extractor_key, exact=exact, query=query)


def _own_vector(field: EmbeddingField, instance: Model) -> tuple[Any, str | None, Any]:
    """The query's vector, its key, and the primary key of the product it belongs to."""
    if isinstance(instance, field.model):
        deferred = instance.get_deferred_fields() & {field.attname, field.key_name}
        vector, key = (None, None) if deferred else (getattr(instance, field.name), getattr(instance, field.key_name))
        if vector is None:  # an instance may be older than its vector
            rows = field.model._base_manager.filter(pk=instance.pk)
            vector, key = rows.values_list(field.name, field.key_name).first() or (None, None)
        product = instance
        for name in field.product.split("__") if field.product else []:
            product = getattr(product, name)
        return vector, key, product.pk
    rows = field.model._default_manager.filter(**{field.product or "pk": instance.pk, f"{field.name}__isnull": False})
    if not rows.ordered:
        rows = rows.order_by("pk")
    vector, key = rows.values_list(field.name, field.key_name).first() or (None, None)
    return vector, key, instance.pk


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
