"""Which pictures show one scene: photos taken one after another, which say nothing new of each other."""

from __future__ import annotations

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
