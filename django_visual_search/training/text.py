"""Texts of a catalogue beside its serving vectors, to learn a text head from; and the head's row.

Entry functions: ``gather_texts`` and ``keep_text_head``, between which ``learning.text.learn_text`` learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.contrib.postgres.search import SearchVectorField
from django.db import router, transaction
from django.db.models import TextField
from django.db.models.functions import MD5, Cast
from numpy.typing import NDArray

from ..db.rows import all_rows
from ..evaluation.catalogue import KEYS_AT_ONCE, NAME_FIELDS, paths_of, usual_labels
from ..fields import EmbeddingField
from ..fields.keys import in_space
from ..fields.products import with_product
from ..learning.serialise import sha256_hex, text_head_bytes
from ..learning.text import TrainedText
from ..models import TextHead
from ..search.fulltext import field_at, output_of, text_path_fault, text_paths
from ..spaces.heads import serving_extractor_key
from ..spaces.text import forget_text_heads
from .supervision import USUAL_LABELS

USUAL_TEXTS = (*NAME_FIELDS, "description")
"""Fields to learn from, with the labels' names, if ``TEXT_FIELDS`` names none of the product."""


@dataclass(frozen=True)
class GatheredTexts:
    """Vectors of one space, with the texts of their products."""

    space_key: str
    source: str
    """The paths that the texts come from, for people."""
    vectors: NDArray[np.float32]
    """``(n, d)``"""
    products: list[Any]
    """Primary key of the product of each vector."""
    texts: list[tuple[str, ...]]
    """Of the product of each vector, by path; "" for none."""


def gather_texts(field: EmbeddingField, most: int) -> GatheredTexts:
    """Read at most ``most`` vectors of the serving space, and their products' texts.

    Raises ValueError where no field has texts, or no picture a vector in that space.
    """
    paths = _paths(field)
    key = serving_extractor_key(field)
    rows, product = with_product(field, all_rows(field.model, router.db_for_read(field.model)))
    rows = rows.filter(in_space(field.key_name, key), **{f"{field.name}__isnull": False})
    rows = rows.exclude(**{f"{product}__isnull": True})
    # The same rows each time, of all ages.
    rows = rows.order_by(MD5(Cast("pk", TextField())), "pk").values_list(product, field.name)[:most]
    products, vectors = [list(column) for column in zip(*rows, strict=True)] or ([], [])
    if not products:
        raise ValueError(
            f"{field.label} has no vectors of {key}, which serves: run `manage.py reindex_embeddings {field.label}` "
            "first."
        )
    texts = _texts_by_product(field, paths, list(dict.fromkeys(products)))
    none = ("",) * len(paths)
    return GatheredTexts(
        key, ", ".join(paths), np.stack(vectors).astype(np.float32), products, [texts.get(pk, none) for pk in products]
    )


def _paths(field: EmbeddingField) -> list[str]:
    model = field.product_model
    # A stored tsvector has no text to learn from.
    paths = [path for path in text_paths(model) if not isinstance(output_of(field_at(model, path)), SearchVectorField)]
    if not paths:
        named = paths_of(model, usual_labels(model, USUAL_LABELS))
        paths = [path for path in (*usual_labels(model, USUAL_TEXTS), *named) if text_path_fault(model, path) is None]
    if not paths:
        raise ValueError(
            f"{model._meta.label} has no field {' or '.join(USUAL_TEXTS)}: name its texts in "
            "VISUAL_SEARCH['TEXT_FIELDS']."
        )
    return paths


def _texts_by_product(field: EmbeddingField, paths: list[str], products: list[Any]) -> dict[Any, tuple[str, ...]]:
    rows = all_rows(field.product_model, router.db_for_read(field.model)).order_by("pk")
    found: dict[Any, tuple[str, ...]] = {}
    for start in range(0, len(products), KEYS_AT_ONCE):
        for pk, *values in rows.filter(pk__in=products[start : start + KEYS_AT_ONCE]).values_list("pk", *paths):
            found[pk] = tuple("" if value is None else str(value) for value in values)
    return found


def keep_text_head(field: EmbeddingField, given: GatheredTexts, trained: TrainedText, seed: int) -> TextHead:
    """Store a text head; it replaces the one of the same space."""
    data = text_head_bytes(trained.projection)
    heads = TextHead.objects.using(router.db_for_write(field.model))
    with transaction.atomic(using=heads.db):
        row = heads.create(
            label=field.label,
            space_key=given.space_key,
            data=data,
            sha256=sha256_hex(data),
            summary={
                "source": given.source,
                "vectors": len(given.products),
                "terms": len(trained.projection.codes),
                "penalty": trained.penalty,
                "seed": seed,
                "seconds": round(trained.seconds, 1),
            },
            metrics=trained.figures.as_dict(),
        )
        heads.filter(label=field.label, space_key=given.space_key, pk__lt=row.pk).delete()
    forget_text_heads()
    return row
