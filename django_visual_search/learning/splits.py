"""Split pictures into those to learn from and those to measure with, near-duplicates on one side.

Entry functions: ``near_duplicates`` groups pictures into scenes; ``unseen_pictures`` and ``unseen_products`` hold some
out. Photos taken one after another are nearly the same: with near-duplicates on both sides, figures flatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Values, grouping, require

Indices = NDArray[np.intp]

UNSEEN_PICTURES, UNSEEN_PRODUCTS, SAME_LABEL = "unseen pictures", "unseen products", "same label"
"""Tasks of a Split: held-out pictures of products that are learned from; products held out with all their pictures,
which are to find their other pictures, or the pictures learned from that have the same label."""


@dataclass(frozen=True)
class Split:
    """Pictures to learn from and pictures to measure with; rows of the arrays that were split, ascending."""

    task: str
    """UNSEEN_PICTURES, UNSEEN_PRODUCTS or SAME_LABEL."""
    train: Indices
    held_out: Indices
    leaked: int | None
    """Held-out pictures with a near-duplicate in ``train``; None where scenes weren't given."""

    def __str__(self) -> str:
        seen = (
            "near-duplicates not looked for"
            if self.leaked is None
            else f"{self.leaked} with a near-duplicate among these"
        )
        return f"{self.task}: {len(self.held_out)} held out, {len(self.train)} to learn from; {seen}"


def unseen_pictures(
    products: Values,
    *,
    share: float = 0.3,
    scenes: Indices | None = None,
    seed: int = 0,
) -> Split:
    """Hold out about ``share`` of each product's pictures, whole scenes at a time; each product keeps at least one.

    ``products``: a label a picture; pictures without one (None, "") are learned from. A product with a single picture
    or scene is only learned from. Raises ValueError where that leaves nothing to measure with.
    """
    group = grouping("product", products, len(products))
    _check_arguments(share, scenes, len(products))
    rng = np.random.default_rng(seed)
    held = np.zeros(len(products), bool)
    for rows in _rows_by(group.classes):
        own = np.arange(len(rows)) if scenes is None else np.unique(scenes[rows], return_inverse=True)[1].reshape(-1)
        aimed, left = share * len(rows), int(own.max()) + 1
        for scene in rng.permutation(left):
            size = int((own == scene).sum())
            # The scene is held out where that brings the count nearer to the share.
            if left > 1 and held[rows].sum() + size / 2 <= aimed:
                held[rows[own == scene]] = True
                left -= 1
        if not held[rows].any() and own.max() > 0:
            sizes = np.bincount(own)
            held[rows[own == sizes.argmin()]] = True
    return _make_split(UNSEEN_PICTURES, held, scenes)


def unseen_products(
    products: Values,
    *,
    share: float = 0.3,
    categories: Values | None = None,
    scenes: Indices | None = None,
    seed: int = 0,
) -> Split:
    """Hold out about ``share`` of the products with all their pictures; of each of the ``categories`` alike.

    Products that share a scene stay together, so that no look-alike of a held-out product is learned from; unless that
    would tie more than half of all pictures to each other: then scenes are ignored and ``leaked`` counts them.
    Pictures without a product are learned from. Raises ValueError for fewer than two products, and ExtractorUnavailable
    where ``scenes`` are given and scikit-learn is missing.
    """
    group = grouping("product", products, len(products))
    _check_arguments(share, scenes, len(products))
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
    aimed = {key: share * size for key, size in zip(*(part.tolist() for part in total), strict=True)}
    left = len(blocks)
    for rows in blocks:
        key = int(stratum[rows[0]])
        if left > 1 and taken.get(key, 0) + len(rows) / 2 <= aimed[key]:
            held[rows] = True
            taken[key] = taken.get(key, 0) + len(rows)
            left -= 1
    if not held.any():
        held[min(blocks, key=len)] = True
    return _make_split(UNSEEN_PRODUCTS, held, scenes)


def _blocks(classes: Indices, scenes: Indices | None) -> list[Indices]:
    """Rows of each product, those of products with a scene in common together."""
    apart = _rows_by(classes)
    if scenes is None:
        return apart
    labelled = np.flatnonzero(classes >= 0)
    numbers = np.unique(scenes[labelled], return_inverse=True)[1].reshape(-1)
    count = int(classes.max()) + 1
    # A graph of products and scenes, with an edge for each picture.
    component = _components(count + int(numbers.max()) + 1, classes[labelled], count + numbers)
    together = _rows_by(np.where(classes >= 0, component[classes], -1))
    return apart if max(map(len, together)) > len(labelled) / 2 else together


def _rows_by(numbers: Indices) -> list[Indices]:
    """Rows with the same number, by ascending number; negative ones left out."""
    order = np.argsort(numbers, kind="stable")
    order = order[np.searchsorted(numbers[order], 0) :]
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if order.size else []


def _make_split(task: str, held: NDArray[np.bool_], scenes: Indices | None) -> Split:
    if not held.any():
        raise ValueError(
            "No product has two pictures that aren't near-duplicates, so none can be held out to measure with. Add "
            "pictures, or measure with altered views of the present ones."
        )
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    leaked = None if scenes is None else int(np.isin(scenes[test], scenes[train]).sum())
    return Split(task, train, test, leaked)


def _check_arguments(share: float, scenes: Indices | None, count: int) -> None:
    if not 0 < share < 1:
        raise ValueError(f"The share to hold out must be between 0 and 1, not {share}.")
    if scenes is not None and len(scenes) != count:
        raise ValueError(f"There are {len(scenes)} scenes for {count} pictures.")


COMPARED_AT_ONCE = 2048
"""Pictures compared with all others at a time."""

THRESHOLD = 0.9
"""The cosine of near-duplicates where the pictures are too few to estimate it: right for MobileNetV2's features of
whole photos beside colours and shapes, by looking at the grocery photos."""
RARE = 1e-4
"""Share of the pairs of different products whose cosine exceeds the estimated threshold. On the grocery photos that
gives .90 for features of whole photos and .917 for means over two views, whose cosines are all higher."""
LOWEST, HIGHEST = 0.88, 0.97
"""Bounds of the estimate: products of some shops have nothing in common, those of others are one thing under several
names."""
THRESHOLD_SAMPLE = 3000
"""Pictures that the threshold is estimated from: 4.5 million pairs, hundreds of which exceed it."""


def near_duplicates(
    features: NDArray[np.floating[Any]],
    *,
    threshold: float | None = None,
    within: Values | None = None,
    beside: NDArray[np.floating[Any]] | None = None,
    at_once: int = COMPARED_AT_ONCE,
) -> Indices:
    """Return the scene of each picture, ``(n,)``: a chain of near-duplicates joins pictures of one scene.

    ``features``: ``(n, f)``. Two pictures are near-duplicates where their cosine is above ``threshold``; with
    ``beside``, features of another kind, ``(n, g)``, where the mean of both cosines is. A network and colours together
    find photos of one shelf better than either. ``within``: a label, such as the product; only pictures with the same
    value are compared then, which for a large catalogue is also much faster. Takes ``n²`` comparisons without.
    ``threshold``: None for the cosine that only RARE of the pairs of different ``within`` exceed, since each kind of
    features has cosines of its own. ``at_once``: pictures compared with all others at a time.

    Raises ValueError where a number isn't finite or lengths differ, and ExtractorUnavailable without scikit-learn.
    """
    parts = [_unit(features)] + ([] if beside is None else [_unit(beside)])
    count = len(parts[0])
    if len(parts[-1]) != count:
        raise ValueError(f"There are {count} rows of features, but {len(parts[-1])} beside them.")
    labels = np.zeros(count, np.intp) if within is None else grouping("within", within, count).classes
    if threshold is None:
        threshold = _rarely_exceeded(parts, labels)
    scene = np.arange(count)
    for rows in _rows_by(labels):
        if len(rows) > 1:
            own = np.arange(len(rows))
            for start in range(0, len(rows), at_once):
                one, other = np.nonzero(_cosines(parts, rows[start : start + at_once], rows) > threshold)
                one += start
                # Joined part by part: all pairs at once may not fit into memory where many pictures are alike.
                if (one != other).any():
                    own = _components(len(rows), own[one], own[other])[own]
            first, inverse = np.unique(own, return_index=True, return_inverse=True)[1:]
            scene[rows] = rows[first][inverse.reshape(-1)]
    return np.asarray(np.unique(scene, return_inverse=True)[1].reshape(-1), np.intp)


def _components(count: int, one: Indices, other: Indices) -> Indices:
    """Return the connected component of each of ``count`` nodes, numbered by its lowest node.

    Edges lead from ``one`` to ``other``.
    """
    require()
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.intp)


def _rarely_exceeded(parts: list[NDArray[np.float32]], labels: Indices) -> float:
    labelled = np.flatnonzero(labels >= 0)
    if len(labelled) > THRESHOLD_SAMPLE:
        labelled = np.sort(np.random.default_rng(0).choice(labelled, THRESHOLD_SAMPLE, replace=False))
    different = np.triu(labels[labelled][:, None] != labels[labelled][None])
    if different.sum() * RARE < 1:
        return THRESHOLD
    cosines = _cosines(parts, labelled, labelled)[different]
    return float(np.clip(np.quantile(cosines, 1 - RARE), LOWEST, HIGHEST))


def _cosines(parts: list[NDArray[np.float32]], some: Indices, others: Indices) -> NDArray[np.float32]:
    """Return ``(some, others)``: the mean over the kinds of features."""
    return np.asarray(np.mean([part[some] @ part[others].T for part in parts], axis=0), np.float32)


def _unit(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError("Features are (pictures, features) of finite numbers.")
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(norms == 0, 1, norms), np.float32)
