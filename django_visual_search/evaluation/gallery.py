"""Answer an evaluation's questions from the vectors in the database, by exact rankings and without decoding.

Entry function: ``load_gallery``. A ``Gallery`` holds the pictures that a search may find, with their vectors; the other
functions rank it for some of its rows, the queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import router
from django.db.models import BinaryField, F, Func

from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..fields.keys import in_space
from ..learning.metrics import Metrics, PerQuery
from ..learning.splits import Indices
from .catalogue import (
    KEYS_AT_ONCE,
    Catalogue,
    catalogue_rows,
    labels_by_name,
    paths_of,
    pictures_each,
    sample_catalogue,
)
from .figures import Confusion, RankedHit, Worst
from .space import OTHER_PICTURES, Vectors, rank, unit

GALLERY_LIMIT = 100_000
"""Pictures in memory at most: 100 MB at 256 dimensions."""

HALFVEC_HEADER = 4
"""Bytes before the numbers in pgvector's binary form of a halfvec: their count, and two reserved."""

SHOWN_HITS = 5
"""Hits shown of a query that went wrong."""
MOST_WORST = 12
MOST_NAMES = 24
"""Labels in a table of confusion: the commonest."""


@dataclass(frozen=True)
class Gallery:
    """Pictures with a vector in one space, in the order of their primary keys."""

    catalogue: Catalogue
    """``labels`` by label, in words for people."""
    raw: dict[str, list[str]]
    """The same labels as stored in the database."""
    vectors: Vectors
    """``(n, d)``, of unit length."""
    space: str
    """The extractor's key."""
    without: int
    """Pictures without a vector in that space."""
    drawn_from: int
    """Pictures of the field."""
    complete: bool
    """Whether these are all pictures that a search may find, not a sample."""

    def __len__(self) -> int:
        return len(self.vectors)


def load_gallery(
    field: EmbeddingField,
    space: str,
    labels: Sequence[str] = (),
    *,
    within: Any = None,
    seed: int = 0,
    limit: int = GALLERY_LIMIT,
) -> Gallery:
    """Load the field's vectors of the space with the key ``space``; with ``within``, those of these products.

    Of more than ``limit`` pictures a sample is drawn. Raises LookupError for a label that products don't have.
    """
    model = field.product_model
    total = catalogue_rows(field, within).count()
    found = sample_catalogue(field, paths_of(model, labels), limit=limit, seed=seed, within=within)
    rows = {key: row for row, key in enumerate(found.keys)}
    vectors = np.zeros((len(rows), field.dimensions or 0), np.float16)
    embedded = np.zeros(len(rows), bool)
    key = "pk" if field.link is None else f"{field.link.name}__pk"
    stored = all_rows(field.model, router.db_for_read(field.model)).order_by()
    stored = stored.filter(in_space(field.key_name, space), **{f"{field.name}__isnull": False})
    stored = stored.annotate(_visual_bytes=Func(F(field.name), function="halfvec_send", output_field=BinaryField()))
    for start in range(0, len(rows), KEYS_AT_ONCE):
        some = stored.filter(**{f"{key}__in": found.keys[start : start + KEYS_AT_ONCE]})
        for pk, data in some.values_list(key, "_visual_bytes"):
            vectors[rows[pk]] = np.frombuffer(data, ">f2", offset=HALFVEC_HEADER)
            embedded[rows[pk]] = True
    kept = np.flatnonzero(embedded)
    named = Catalogue(found.keys, found.images, found.products, labels_by_name(model, found, labels)).only(kept)
    raw = {label: [found.labels[label][row] for row in kept] for label in labels}
    return Gallery(named, raw, unit(vectors[embedded]), space, int((~embedded).sum()), total, total <= limit)


def other_pictures(gallery: Gallery, rows: Indices) -> tuple[Indices, PerQuery] | None:
    """Measure queries by their product's other pictures; return the rows that are queries, and their measures.

    None where no product has another picture.
    """
    several = rows[pictures_each(gallery.catalogue.products)[rows] > 1]
    if not len(several):
        return None
    products = np.array(gallery.catalogue.products, object)
    found = rank(gallery.vectors[several], gallery.vectors, products[several], products, hidden=several)
    return several, found


def same_labelled(gallery: Gallery, rows: Indices, path: str) -> tuple[Indices, PerQuery] | None:
    """Measure queries by pictures of other products with the query's label, as ``other_pictures`` does.

    None where no two products share a label.
    """
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
    """Average the measures of queries by label, the commonest first; queries with nothing to find are left out."""
    names = np.array(labels, object)
    measured = ~np.isnan(per_query.average_precision)
    counts = Counter(names[measured].tolist())
    return {
        name: per_query.mean(names == name)
        for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if name
    }


def nearest_rows(gallery: Gallery, row: int, count: int, *, apart: bool = False) -> list[tuple[int, float]]:
    """Return the ``count`` nearest rows of one picture with their cosines, without itself; ``apart``: its product."""
    cosines = gallery.vectors @ gallery.vectors[row]
    cosines[row] = -np.inf
    if apart:
        cosines[np.array(gallery.catalogue.products, object) == gallery.catalogue.products[row]] = -np.inf
    count = min(count, len(cosines))
    nearest = np.argpartition(-cosines, count - 1)[:count]
    order = nearest[np.lexsort((nearest, -cosines[nearest]))]
    return [(int(i), float(cosines[i])) for i in order if np.isfinite(cosines[i])]


def confusion(gallery: Gallery, rows: Indices, path: str) -> Confusion | None:
    """Count the labels of the nearest pictures of other products, by the query's label; None for fewer than two."""
    labels = gallery.catalogue.labels[path]
    pairs = [
        (labels[row], labels[hits[0][0]])
        for row in rows.tolist()
        if labels[row] and (hits := nearest_rows(gallery, row, 1, apart=True)) and labels[hits[0][0]]
    ]
    common = Counter(own for own, _ in pairs).most_common(MOST_NAMES)
    names = sorted(name for name, _ in common)
    if len(names) < 2:
        return None
    place = {name: i for i, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    left_out = 0
    for own, nearest in pairs:
        if own in place and nearest in place:
            counts[place[own]][place[nearest]] += 1
        else:
            left_out += 1
    return Confusion(path, names, counts, left_out)


def worst(gallery: Gallery, queries: Indices, per_query: PerQuery) -> list[Worst]:
    """Return the queries that found their product's other pictures last, with the hits that came first instead."""
    catalogue = gallery.catalogue
    # By the first right hit: a product of twenty pictures found at once may still have a low average precision.
    first = 1 / per_query.reciprocal_rank
    order = np.lexsort((queries, per_query.average_precision, -first))
    found = []
    for place in order[:MOST_WORST]:
        if not first[place] > 1:
            break
        row = int(queries[place])
        hits = [
            RankedHit(
                catalogue.images[i],
                catalogue.products[i],
                cosine,
                catalogue.products[i] == catalogue.products[row],
            )
            for i, cosine in nearest_rows(gallery, row, SHOWN_HITS)
        ]
        at = round(float(first[place]))
        found.append(Worst(OTHER_PICTURES, catalogue.images[row], catalogue.products[row], at, hits))
    return found
