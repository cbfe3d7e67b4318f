"""Measures a vector space that need not serve yet: pictures are decoded and embedded here, nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extractors import Extractor
from ..fields import EmbeddingField
from ..learning.augment import views
from ..learning.measures import Metrics
from .catalogue import read_catalogue
from .pictures import Unreadable, decoded
from .sample import pictures_each, sample
from .tasks import OTHER_PICTURES, VIEWS, rank

LIMIT = 1000
VIEWS_EACH = 2
"""Altered views of a picture that are queries."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """Pictures that could be embedded: their places among those asked for, vectors ``(n, d)``, and altered views of
    some of them, ``(v, d)``, with the row (of ``vectors``) that each shows."""

    places: NDArray[np.intp]
    vectors: Vectors
    views: Vectors
    shown: NDArray[np.intp]


def measure_space(
    field: EmbeddingField,
    extractor: Extractor,
    *,
    limit: int = LIMIT,
    seed: int = 0,
    within: Any = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Metrics]:
    """How well the extractor's vectors find a field's products, by task (see ``tasks``); those there are queries for.

    At most ``limit`` pictures are drawn, decoded and embedded; they are the queries and what may be found, so figures
    with different limits, seeds or catalogues can't be compared, and those of two extractors with the same can.
    ``within``: a queryset of products; None for all. ``progress`` is told how many pictures are through.

    Raises ValueError where there is nothing to measure with, and ExtractorUnavailable where the extractor can't run.
    """
    catalogue = read_catalogue(field, within=within)
    rows = sample(catalogue.products, limit, seed)
    alone = pictures_each(catalogue.products)[rows] == 1
    images = [catalogue.images[row] for row in rows]
    found = embed(field, extractor, images, viewed=alone, seed=seed, progress=progress)
    products = np.array(catalogue.products, dtype=object)[rows][found.places]
    measured: dict[str, Metrics] = {}
    several = np.flatnonzero(pictures_each(products.tolist()) > 1)
    if len(several):
        queries = found.vectors[several]
        per_query = rank(queries, found.vectors, products[several], products, hidden=several)
        measured[OTHER_PICTURES] = per_query.mean()
    if len(found.views):
        measured[VIEWS] = rank(found.views, found.vectors, products[found.shown], products).mean()
    if not measured:
        raise ValueError(
            f"{field.label} has no picture to measure with: add products with pictures that can be read, or look at "
            "`manage.py findability_report` for what is wrong with those there are."
        )
    return measured


def embed(
    field: EmbeddingField,
    extractor: Extractor,
    images: list[str],
    *,
    viewed: NDArray[np.bool_],
    seed: int,
    unreadable: Unreadable | None = None,
    progress: Callable[[int], None] | None = None,
) -> Embedded:
    """Embed the pictures of those names, and VIEWS_EACH altered views of those that are ``viewed``, ``(n,)``."""
    places: list[int] = []
    vectors, others, shown = [], [], []
    for batch in decoded(field, images, extractor.spec, unreadable):
        if not batch.places:
            continue
        first = len(places)
        places += batch.places
        vectors.append(extractor(batch.pixels))
        made = [
            (np.asarray(view), first + i)
            for i, (place, pixels) in enumerate(zip(batch.places, batch.pixels, strict=True))
            if viewed[place]
            for view in views(Image.fromarray(pixels), VIEWS_EACH, [seed, place])
        ]
        if made:
            others.append(extractor(np.stack([pixels for pixels, _ in made])))
            shown += [row for _, row in made]
        if progress is not None:
            progress(len(places))
    nothing = np.empty((0, extractor.spec.dimensions), np.float32)
    return Embedded(
        np.array(places, np.intp),
        unit(np.concatenate(vectors)) if vectors else nothing,
        unit(np.concatenate(others)) if others else nothing,
        np.array(shown, np.intp),
    )


def unit(vectors: NDArray[Any]) -> Vectors:
    """As the database keeps and compares them: in half precision, then of unit length."""
    halves = np.asarray(vectors, np.float16).astype(np.float32)
    norms = np.linalg.norm(halves, axis=1, keepdims=True)
    return np.asarray(halves / np.where(norms == 0, 1, norms), np.float32)
