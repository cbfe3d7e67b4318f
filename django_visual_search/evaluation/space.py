"""The questions that a search is measured by, and what is a right answer to each.

Measures a vector space that need not serve yet: pictures are decoded and embedded here, nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extractors import Extractor
from ..fields import EmbeddingField
from ..learning.augment import views
from ..learning.metrics import Metrics, PerQuery, evaluate, joined
from .catalogue import pictures_each, read_catalogue, sample
from .pictures import Unreadable, decoded

OTHER_PICTURES = "other pictures"
"""A picture of a product is the query, the product's other pictures are right; the query itself can't be found."""

VIEWS = "altered views"
"""An altered view of a product's only picture is the query, that product's picture is right."""

AT_ONCE = 20_000_000
"""Similarities in memory at a time."""

Vectors = NDArray[np.floating[Any]]


def same_label(path: str) -> str:
    """The task in which pictures of other products with the query's label are right, its own product left out."""
    return f"same {path}"


def described(task: str) -> str:
    """What a task's figures are about, as one sentence."""
    if task == OTHER_PICTURES:
        return (
            "A picture of a product that has several is the query, left out of what may be found; the product's other "
            "pictures are right."
        )
    if task == VIEWS:
        return (
            "An altered view (cropped, other light, turned, another background, blurred, compressed or mirrored) of "
            "the only picture of a product is the query; that product is right."
        )
    path = task.removeprefix("same ")
    return f"A picture is the query; pictures of other products with the same {path} are right, its own product aside."


def rank(
    queries: Vectors,
    vectors: Vectors,
    right: Sequence[str] | NDArray[Any],
    of: Sequence[str] | NDArray[Any],
    *,
    hidden: NDArray[np.intp] | None = None,
    apart: tuple[Sequence[str], Sequence[str]] | None = None,
) -> PerQuery:
    """Measure a complete ranking of pictures by cosine.

    ``queries``: ``(q, d)``, ``vectors``: ``(n, d)``, of unit length. ``right``: by query, ``of``: by picture; equal
    ones are right, "" never is. ``hidden``: by query, the picture that it is itself. ``apart``: the same two of
    products; pictures of the query's own product can't be found then.
    """
    numbers, ids = _numbers(right, of)
    own = None if apart is None else _numbers(*apart)
    full = np.asarray(vectors, np.float32)
    step = max(1, AT_ONCE // max(1, len(full)))
    parts = []
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        similarities = np.asarray(queries[rows], np.float32) @ full.T
        gains = (numbers[rows, None] == ids[None, :]) & (ids >= 0)[None, :]
        candidates = np.ones(gains.shape, bool)
        if hidden is not None:
            candidates[np.arange(len(gains)), hidden[rows]] = False
        if own is not None:
            candidates &= (own[0][rows, None] != own[1][None, :]) | (own[0][rows, None] < 0)
        parts.append(evaluate(similarities, gains, candidates=candidates))
    return joined(parts)


def _numbers(
    first: Sequence[str] | NDArray[Any], second: Sequence[str] | NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Both as numbers, equal where the texts are; -1 for ""."""
    known: dict[str, int] = {"": -1}
    made = [np.array([known.setdefault(text, len(known)) for text in texts], np.intp) for texts in (first, second)]
    return made[0], made[1]


LIMIT = 1000
VIEWS_EACH = 2
"""Altered views of a picture that are queries."""


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
