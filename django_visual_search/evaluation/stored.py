"""Questions answered by the vectors that the shop's search has: exact rankings, nothing decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..learning.metrics import Metrics, PerQuery
from .catalogue import pictures_each
from .figures import Confusion, Hit, Worst
from .gallery import Gallery
from .space import OTHER_PICTURES, rank

SHOWN = 5
"""Hits of a query that went wrong."""
MOST_WORST = 12
MOST_NAMES = 24
"""Labels in a table of confusion: the commonest."""

Indices = NDArray[np.intp]


def other_pictures(gallery: Gallery, rows: Indices) -> tuple[Indices, PerQuery] | None:
    """The rows that are queries, and their measures; None where no product has another picture."""
    several = rows[pictures_each(gallery.catalogue.products)[rows] > 1]
    if not len(several):
        return None
    products = np.array(gallery.catalogue.products, object)
    found = rank(gallery.vectors[several], gallery.vectors, products[several], products, hidden=several)
    return several, found


def same(gallery: Gallery, rows: Indices, path: str) -> tuple[Indices, PerQuery] | None:
    """The same for pictures of other products with the query's label; None where no two products share one."""
    labels = np.array(gallery.catalogue.labels[path], object)
    labelled = rows[labels[rows] != ""]
    if not len(labelled):
        return None
    products = gallery.catalogue.products
    own = [products[row] for row in labelled]
    vectors = gallery.vectors
    found = rank(vectors[labelled], vectors, labels[labelled], labels, hidden=labelled, apart=(own, products))
    return None if np.isnan(found.average_precision).all() else (labelled, found)


def by_label(per_query: PerQuery, labels: Sequence[str]) -> dict[str, Metrics]:
    """Figures of the queries with each label, the commonest first; those with nothing to find left out."""
    names = np.array(labels, object)
    there = ~np.isnan(per_query.average_precision)
    counts = Counter(names[there].tolist())
    return {
        name: per_query.mean(names == name)
        for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if name
    }


def nearest_rows(gallery: Gallery, row: int, count: int, *, apart: bool = False) -> list[tuple[int, float]]:
    """The rows nearest to one of the pictures, with their cosines; never itself, with ``apart`` not its product."""
    cosines = gallery.vectors @ gallery.vectors[row]
    cosines[row] = -np.inf
    if apart:
        cosines[np.array(gallery.catalogue.products, object) == gallery.catalogue.products[row]] = -np.inf
    count = min(count, len(cosines))
    nearest = np.argpartition(-cosines, count - 1)[:count]
    order = nearest[np.lexsort((nearest, -cosines[nearest]))]
    return [(int(i), float(cosines[i])) for i in order if np.isfinite(cosines[i])]


def confusion(gallery: Gallery, rows: Indices, path: str) -> Confusion | None:
    """What the nearest picture of another product is labelled with; None with fewer than two labels."""
    labels = gallery.catalogue.labels[path]
    pairs = [
        (labels[row], labels[hits[0][0]])
        for row in rows.tolist()
        if labels[row] and (hits := nearest_rows(gallery, row, 1, apart=True)) and labels[hits[0][0]]
    ]
    common = Counter(asked for asked, _ in pairs).most_common(MOST_NAMES)
    names = sorted(name for name, _ in common)
    if len(names) < 2:
        return None
    place = {name: i for i, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    left_out = 0
    for asked, found in pairs:
        if asked in place and found in place:
            counts[place[asked]][place[found]] += 1
        else:
            left_out += 1
    return Confusion(path, names, counts, left_out)


def worst(gallery: Gallery, queries: Indices, per_query: PerQuery) -> list[Worst]:
    """The queries that found their product's other pictures last, with what came first instead."""
    catalogue = gallery.catalogue
    # By the first right hit: a product with twenty pictures has a low average precision though it is found at once.
    first = 1 / per_query.reciprocal_rank
    order = np.lexsort((queries, per_query.average_precision, -first))
    found = []
    for place in order[:MOST_WORST]:
        if not first[place] > 1:
            break
        row = int(queries[place])
        hits = [
            Hit(
                catalogue.images[i],
                catalogue.products[i],
                cosine,
                catalogue.products[i] == catalogue.products[row],
            )
            for i, cosine in nearest_rows(gallery, row, SHOWN)
        ]
        at = round(float(first[place]))
        found.append(Worst(OTHER_PICTURES, catalogue.images[row], catalogue.products[row], at, hits))
    return found
