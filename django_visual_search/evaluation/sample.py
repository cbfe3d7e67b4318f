"""Which pictures are measured with: a seeded sample, so that measuring ends in minutes however large the shop is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]

FEWEST = 2
"""Pictures of a product that has as many: with one alone, none of its others could be found."""


def sample(products: Sequence[str], limit: int, seed: int = 0) -> Indices:
    """At most ``limit`` pictures, of as many products as can be, ascending.

    ``products``: whose each picture is; "" for those of none, which are left out. Where a product has many pictures,
    some of them are drawn. Raises ValueError for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"The limit must be at least 1 picture, not {limit}.")
    by_product: dict[str, list[int]] = defaultdict(list)
    for row, product in enumerate(products):
        if product:
            by_product[product].append(row)
    owned = list(by_product.values())
    if sum(map(len, owned)) <= limit:
        return np.sort(np.array([row for rows in owned for row in rows], np.intp))
    rng = np.random.default_rng(seed)
    most = _most([len(rows) for rows in owned], limit)
    chosen: list[int] = []
    for i in rng.permutation(len(owned)):
        rows = owned[i]
        drawn = rng.permutation(rows)[:most] if len(rows) > most else rows
        if len(chosen) + len(drawn) > limit:
            if len(chosen) == limit:
                break
            # One picture of a product that has others would be a query with nothing to find.
            if len(rows) > 1 and limit - len(chosen) < FEWEST and chosen:
                continue
        chosen += [int(row) for row in drawn[: limit - len(chosen)]]
    return np.sort(np.array(chosen, np.intp))


def _most(counts: list[int], limit: int) -> int:
    """Pictures of one product at most: as many as let all products in, and FEWEST at least."""
    sizes = np.array(counts)
    fitting = [most for most in range(FEWEST, max(counts) + 1) if np.minimum(sizes, most).sum() <= limit]
    return max(fitting, default=FEWEST)


def pictures_each(products: Sequence[str]) -> NDArray[np.intp]:
    """For each picture, how many there are of its product; 0 for those of none."""
    counts: dict[str, int] = defaultdict(int)
    for product in products:
        counts[product] += 1
    return np.array([counts[product] if product else 0 for product in products], np.intp)
