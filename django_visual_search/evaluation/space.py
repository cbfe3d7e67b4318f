"""Define the tasks that a search is measured by, and measure any vector space, serving or not.

Entry functions: ``measure_space`` decodes and embeds pictures with any extractor and writes nothing; ``rank`` measures
complete rankings. A *task* says what the query is, and which hits are right.
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
from ..learning.augment import altered_views
from ..learning.metrics import Metrics, PerQuery, concatenate, evaluate
from .catalogue import pictures_each, sample_catalogue
from .pictures import Unreadable, decoded_batches

OTHER_PICTURES = "other pictures"
"""Task: a picture is the query, its product's other pictures are right; the query itself can't be found."""

ALTERED_VIEWS = "altered views"
"""Task: an altered view of a product's only picture is the query, that picture is right."""

RANKED_AT_ONCE = 20_000_000
"""Similarities in memory at a time."""

Vectors = NDArray[np.floating[Any]]


def same_label(path: str) -> str:
    """Return the task in which pictures of other products with the query's label are right."""
    return f"same {path}"


def described_task(task: str) -> str:
    """Describe a task in one sentence."""
    if task == OTHER_PICTURES:
        return (
            "A picture of a product that has several is the query, which can't find itself; the product's other "
            "pictures are right."
        )
    if task == ALTERED_VIEWS:
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

    ``queries``: ``(q, d)``, ``vectors``: ``(n, d)``, of unit length. ``right``: a text by query, ``of``: by picture;
    equal ones are right, "" never is. ``hidden``: by query, its own row in ``vectors``, which it can't find. ``apart``:
    products by query and by picture; a query can't find pictures of its own product then.
    """
    numbers, ids = _number_texts(right, of)
    own = None if apart is None else _number_texts(*apart)
    full = np.asarray(vectors, np.float32)
    step = max(1, RANKED_AT_ONCE // max(1, len(full)))
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
    return concatenate(parts)


def _number_texts(
    first: Sequence[str] | NDArray[Any], second: Sequence[str] | NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Assign numbers to both, equal ones to equal texts, -1 to ""."""
    numbers: dict[str, int] = {"": -1}
    made = [np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.intp) for texts in (first, second)]
    return made[0], made[1]


SPACE_LIMIT = 1000
VIEWS_EACH = 2
"""Altered views of each picture that are queries."""


@dataclass(frozen=True)
class EmbeddedPictures:
    """The readable pictures: their places in the request, and vectors ``(n, d)``.

    ``views``: vectors of altered views of some, ``(v, d)``. ``shown``: the row of ``vectors`` that each shows.
    """

    places: NDArray[np.intp]
    vectors: Vectors
    views: Vectors
    shown: NDArray[np.intp]


def measure_space(
    field: EmbeddingField,
    extractor: Extractor,
    *,
    limit: int = SPACE_LIMIT,
    seed: int = 0,
    within: Any = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Metrics]:
    """Measure how well the extractor's vectors find a field's products, by task; tasks without a query are left out.

    At most ``limit`` pictures are drawn, decoded and embedded; they are both the queries and the gallery, so compare
    figures of two extractors only by the same limit, seed and catalogue. ``within``: a queryset of products; None for
    all. ``progress`` receives the number of pictures done.

    Raises ValueError where there is nothing to measure with, and ExtractorUnavailable where the extractor can't run.
    """
    catalogue = sample_catalogue(field, limit=limit, seed=seed, within=within)
    alone = pictures_each(catalogue.products) == 1
    found = embed_pictures(field, extractor, catalogue.images, viewed=alone, seed=seed, progress=progress)
    products = np.array(catalogue.products, dtype=object)[found.places]
    measured: dict[str, Metrics] = {}
    several = np.flatnonzero(pictures_each(products.tolist()) > 1)
    if len(several):
        queries = found.vectors[several]
        per_query = rank(queries, found.vectors, products[several], products, hidden=several)
        measured[OTHER_PICTURES] = per_query.mean()
    if len(found.views):
        measured[ALTERED_VIEWS] = rank(found.views, found.vectors, products[found.shown], products).mean()
    if not measured:
        raise ValueError(
            f"{field.label} has no picture to measure with: add products with readable pictures; `manage.py "
            "findability_report` says what is wrong with the present ones."
        )
    return measured


def embed_pictures(
    field: EmbeddingField,
    extractor: Extractor,
    images: list[str],
    *,
    viewed: NDArray[np.bool_],
    seed: int,
    unreadable: Unreadable | None = None,
    progress: Callable[[int], None] | None = None,
) -> EmbeddedPictures:
    """Embed the pictures with these names, and VIEWS_EACH altered views where ``viewed``, ``(n,)``, is true."""
    places: list[int] = []
    vectors, others, shown = [], [], []
    for batch in decoded_batches(field, images, extractor.spec, unreadable):
        if not batch.places:
            continue
        first = len(places)
        places += batch.places
        vectors.append(extractor(batch.pixels))
        made = [
            (np.asarray(view), first + i)
            for i, (place, pixels) in enumerate(zip(batch.places, batch.pixels, strict=True))
            if viewed[place]
            for view in altered_views(Image.fromarray(pixels), VIEWS_EACH, [seed, place])
        ]
        if made:
            others.append(extractor(np.stack([pixels for pixels, _ in made])))
            shown += [row for _, row in made]
        if progress is not None:
            progress(len(places))
    nothing = np.empty((0, extractor.spec.dimensions), np.float32)
    return EmbeddedPictures(
        np.array(places, np.intp),
        unit(np.concatenate(vectors)) if vectors else nothing,
        unit(np.concatenate(others)) if others else nothing,
        np.array(shown, np.intp),
    )


def unit(vectors: NDArray[Any]) -> Vectors:
    """Round vectors to half precision as the database does, and scale them to unit length."""
    halves = np.asarray(vectors, np.float16).astype(np.float32)
    norms = np.linalg.norm(halves, axis=1, keepdims=True)
    return np.asarray(halves / np.where(norms == 0, 1, norms), np.float32)
