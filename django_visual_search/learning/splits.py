"""Honest splits: what is measured was never learned from, and near-duplicates of it neither where that can be had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .labels import Values, grouping
from .scenes import join, root

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """Pictures to learn from and pictures to measure with; rows of the arrays that were split, ascending."""

    task: str
    """"unseen pictures" of products that are learned from, or "unseen products"."""
    train: Indices
    held_out: Indices
    leaked: int | None
    """Held-out pictures that have a near-duplicate in ``train``; None where nobody said which are near-duplicates."""

    def __str__(self) -> str:
        seen = "near-duplicates not looked for" if self.leaked is None else f"{self.leaked} with a near-duplicate there"
        return f"{self.task}: {len(self.held_out)} held out, {len(self.train)} to learn from; {seen}"


def unseen_pictures(
    products: Values,
    *,
    share: float = 0.3,
    scenes: Indices | None = None,
    seed: int = 0,
) -> Split:
    """Hold out about ``share`` of each product's pictures, whole scenes at a time, and always keep one to learn from.

    ``products``: a label a picture; those without one (None, "") are learned from. A product with a single picture or
    scene is only learned from. Raises ValueError where that leaves nothing to measure with.
    """
    group = grouping("product", products, len(products))
    _check(share, scenes, len(products))
    rng = np.random.default_rng(seed)
    held = np.zeros(len(products), bool)
    for rows in _rows_by(group.classes):
        own = np.arange(len(rows)) if scenes is None else np.unique(scenes[rows], return_inverse=True)[1].reshape(-1)
        wanted, left = share * len(rows), int(own.max()) + 1
        for scene in rng.permutation(left):
            size = int((own == scene).sum())
            # The scene goes where that brings the count nearer to what is wanted.
            if left > 1 and held[rows].sum() + size / 2 <= wanted:
                held[rows[own == scene]] = True
                left -= 1
        if not held[rows].any() and own.max() > 0:
            sizes = np.bincount(own)
            held[rows[own == sizes.argmin()]] = True
    return _split("unseen pictures", held, scenes)


def unseen_products(
    products: Values,
    *,
    share: float = 0.3,
    categories: Values | None = None,
    scenes: Indices | None = None,
    seed: int = 0,
) -> Split:
    """Hold out about ``share`` of the products with all their pictures; of each category alike, where those are given.

    Products that share a scene go together, so that no look-alike of a held-out product is learned from; unless that
    would tie more than half of all pictures to each other, when scenes are left aside and ``leaked`` counts them.
    Pictures without a product are learned from. Raises ValueError where fewer than two products are there.
    """
    group = grouping("product", products, len(products))
    _check(share, scenes, len(products))
    if len(group.counts) < 2:
        raise ValueError("Unseen products can only be held out of two or more products with pictures.")
    stratum = np.zeros(len(products), np.intp)
    if categories is not None:
        stratum = grouping("category", categories, len(products)).classes
    rng = np.random.default_rng(seed)
    blocks = _blocks(group.classes, scenes)
    held = np.zeros(len(products), bool)
    blocks = [blocks[i] for i in rng.permutation(len(blocks))]
    taken: dict[int, int] = {}
    total = np.unique(stratum[group.classes >= 0], return_counts=True)
    wanted = {key: share * size for key, size in zip(*(part.tolist() for part in total), strict=True)}
    left = len(blocks)
    for rows in blocks:
        key = int(stratum[rows[0]])
        if left > 1 and taken.get(key, 0) + len(rows) / 2 <= wanted[key]:
            held[rows] = True
            taken[key] = taken.get(key, 0) + len(rows)
            left -= 1
    if not held.any():
        held[min(blocks, key=len)] = True
    return _split("unseen products", held, scenes)


def _blocks(classes: Indices, scenes: Indices | None) -> list[Indices]:
    """Rows of each product, those of products with a scene in common together."""
    apart = _rows_by(classes)
    if scenes is None:
        return apart
    joined = np.arange(int(classes.max()) + 1)
    known = np.flatnonzero(classes >= 0)
    for rows in _rows_by(scenes[known]):
        for other in np.unique(classes[known[rows]]):
            join(joined, int(classes[known[rows[0]]]), int(other))
    roots = np.array([root(joined, i) for i in range(len(joined))], np.intp)
    together = _rows_by(np.where(classes >= 0, roots[classes], -1))
    return apart if max(map(len, together)) > len(known) / 2 else together


def _rows_by(numbers: Indices) -> list[Indices]:
    """Rows with the same number, by ascending number; negative ones left out."""
    order = np.argsort(numbers, kind="stable")
    order = order[np.searchsorted(numbers[order], 0) :]
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if order.size else []


def _split(task: str, held: NDArray[np.bool_], scenes: Indices | None) -> Split:
    if not held.any():
        raise ValueError(
            "No product has two pictures that aren't near-duplicates, so none can be held out to measure with. Add "
            "pictures, or measure with altered views of the ones that are there."
        )
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    leaked = None if scenes is None else int(np.isin(scenes[test], scenes[train]).sum())
    return Split(task, train, test, leaked)


def _check(share: float, scenes: Indices | None, count: int) -> None:
    if not 0 < share < 1:
        raise ValueError(f"The share to hold out must be between 0 and 1, not {share}.")
    if scenes is not None and len(scenes) != count:
        raise ValueError(f"There are {len(scenes)} scenes for {count} pictures.")
