"""The questions that a search is measured by, and what is a right answer to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..learning.measures import PerQuery, joined
from ..learning.metrics import evaluate

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
