"""What a search may find: the vectors that the database holds now, with whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import router
from django.db.models import BinaryField, F, Func
from numpy.typing import NDArray

from ..fields import EmbeddingField
from ..fields.keys import in_space
from .catalogue import Catalogue, by_name, paths_of, read_catalogue, sample
from .space import Vectors, unit

MOST = 100_000
"""Pictures in memory: 100 MB at 256 dimensions."""

HEADER = 4
"""Bytes before the numbers in pgvector's binary form of a halfvec: their count, and two for later use."""


@dataclass(frozen=True)
class Gallery:
    """Pictures with a vector in one space, in the order of their primary keys."""

    catalogue: Catalogue
    """``labels`` by label, in the words of people."""
    raw: dict[str, list[str]]
    """The same labels as they are in the database."""
    vectors: Vectors
    """``(n, d)``, of unit length."""
    space: str
    """The extractor's key."""
    without: int
    """Pictures that have no vector in that space."""
    drawn_from: int
    """Pictures there are, of which more than MOST are a seeded sample."""

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def complete(self) -> bool:
        """Whether all pictures are here that a search may find."""
        return self.drawn_from <= MOST


def load_gallery(
    field: EmbeddingField, space: str, labels: Sequence[str] = (), *, within: Any = None, seed: int = 0
) -> Gallery:
    """The field's vectors of the space ``space``, those of products in ``within`` where that is given.

    Raises LookupError for a label that products don't have.
    """
    model = field.product_model
    found = read_catalogue(field, paths_of(model, labels), within=within)
    named = Catalogue(found.keys, found.images, found.products, by_name(model, found, labels))
    chosen = sample(named.products, MOST, seed).tolist()
    rows = {named.keys[row]: place for place, row in enumerate(chosen)}
    vectors = np.zeros((len(rows), field.dimensions or 0), np.float16)
    there = np.zeros(len(rows), bool)
    key = "pk" if field.link is None else f"{field.link.name}__pk"
    stored = field.model._base_manager.using(router.db_for_read(field.model))
    stored = stored.filter(in_space(field.key_name, space), **{f"{field.name}__isnull": False})
    stored = stored.annotate(visual_bytes=Func(F(field.name), function="halfvec_send", output_field=BinaryField()))
    for pk, data in stored.order_by().values_list(key, "visual_bytes").iterator():
        place = rows.get(pk)
        if place is not None:
            vectors[place] = np.frombuffer(data, ">f2", offset=HEADER)
            there[place] = True
    kept = [row for row, is_there in zip(chosen, there, strict=True) if is_there]
    raw = {label: [found.labels[label][row] for row in kept] for label in labels}
    return Gallery(only(named, kept), raw, unit(vectors[there]), space, int((~there).sum()), len(named))


def only(catalogue: Catalogue, rows: Sequence[int] | NDArray[np.intp]) -> Catalogue:
    """Some of the pictures, in the order of ``rows``."""
    return Catalogue(
        [catalogue.keys[row] for row in rows],
        [catalogue.images[row] for row in rows],
        [catalogue.products[row] for row in rows],
        {path: [values[row] for row in rows] for path, values in catalogue.labels.items()},
    )
