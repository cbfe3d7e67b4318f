"""Which pictures show one scene: photos taken one after another, which say nothing new of each other.

Honest splits: what is measured was never learned from, and near-duplicates of it neither where that can be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Values, grouping

AT_ONCE = 2048
"""Pictures compared with all others at a time."""

THRESHOLD = 0.9
"""The cosine of near-duplicates where there is too little to find it from: right for MobileNetV2's features of whole
photos beside colours and shapes, by looking at the grocery photos."""
RARE = 1e-4
"""Share of the pairs of different products that are more alike than near-duplicates are. On the grocery photos that
gives .90 for features of whole photos and .917 for means over two views, whose cosines are all higher."""
LOWEST, HIGHEST = 0.88, 0.97
"""Between these, whatever a shop's products look like: some have nothing in common, some are one thing under several
names."""
COMPARED = 3000
"""Pictures that it is found from: 4.5 million pairs, hundreds of which are beyond."""


def near_duplicates(
    features: NDArray[np.floating[Any]],
    *,
    threshold: float | None = None,
    within: Values | None = None,
    beside: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.intp]:
    """The scene that each picture belongs to: pictures are of one scene if a chain of near-duplicates joins them.

    ``features``: ``(n, f)``. Two pictures are near-duplicates where their cosine is above ``threshold``; with
    ``beside``, features of another kind, ``(n, g)``, where the mean of both cosines is. A network and colours together
    find photos of one shelf better than either. ``within``: a label, such as the product; then only pictures with the
    same are compared, which for a large catalogue is also much faster. Takes ``n²`` comparisons without.
    ``threshold``: None for what only RARE of the pairs of different ``within`` exceed, since each kind of features has
    cosines of its own.

    Returns ``(n,)`` whole numbers. Raises ValueError where a number isn't finite or lengths differ.
    """
    parts = [_unit(features)] + ([] if beside is None else [_unit(beside)])
    count = len(parts[0])
    if len(parts[-1]) != count:
        raise ValueError(f"There are {count} rows of features, but {len(parts[-1])} beside them.")
    labels = np.zeros(count, np.intp) if within is None else grouping("within", within, count).classes
    if threshold is None:
        threshold = _rarely_exceeded(parts, labels)
    scene = np.arange(count)
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if rows.size and labels[rows[0]] >= 0:
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                cosines = _cosines(parts, some, rows)
                for i, j in zip(*np.nonzero(cosines > threshold), strict=True):
                    join(scene, int(some[i]), int(rows[j]))
    roots = np.array([root(scene, i) for i in range(count)], np.intp)
    return np.asarray(np.unique(roots, return_inverse=True)[1].reshape(-1), np.intp)


def _rarely_exceeded(parts: list[NDArray[np.float32]], labels: NDArray[np.intp]) -> float:
    known = np.flatnonzero(labels >= 0)
    if len(known) > COMPARED:
        known = np.sort(np.random.default_rng(0).choice(known, COMPARED, replace=False))
    different = np.triu(labels[known][:, None] != labels[known][None])
    if different.sum() * RARE < 1:
        return THRESHOLD
    cosines = _cosines(parts, known, known)[different]
    return float(np.clip(np.quantile(cosines, 1 - RARE), LOWEST, HIGHEST))


def _cosines(parts: list[NDArray[np.float32]], some: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.float32]:
    """``(some, others)``: the mean over the kinds of features."""
    return np.asarray(np.mean([part[some] @ part[others].T for part in parts], axis=0), np.float32)


def _unit(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError("Features are (pictures, features) of finite numbers.")
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(norms == 0, 1, norms), np.float32)


def root(parents: NDArray[np.intp], i: int) -> int:
    """The smallest member of the set that ``i`` is in; ``parents`` starts as ``arange``."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i


def join(parents: NDArray[np.intp], i: int, j: int) -> None:
    """Make one of the sets that ``i`` and ``j`` are in."""
    i, j = root(parents, i), root(parents, j)
    parents[max(i, j)] = min(i, j)


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
