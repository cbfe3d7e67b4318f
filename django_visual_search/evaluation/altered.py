"""Search by altered pictures, as a shopper's photo may differ from the shop's own.

Entry functions: ``search_by_views`` sends altered views of products with one picture through the search by photo;
``robustness`` finds how much a picture may be altered before its product is no longer found first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..conf import conf
from ..db.rows import all_rows
from ..extractors import Extractor, ExtractorSpec
from ..fields import EmbeddingField
from ..learning.augment import alter, altered_views
from ..learning.metrics import PerQuery, evaluate_lists
from ..learning.splits import Indices
from ..search import search_by_image
from .figures import RankedHit, RobustnessCurve, Worst
from .gallery import MOST_WORST, SHOWN_HITS, Gallery
from .pictures import Unreadable, as_photo, large_pictures, prepare_photo
from .space import ALTERED_VIEWS, VIEWS_EACH, unit

DEPTH = 100
"""Hits looked at; a product further down counts as not found."""


def search_by_views(
    field: EmbeddingField,
    spec: ExtractorSpec,
    gallery: Gallery,
    rows: Indices,
    *,
    seed: int,
    within: Any = None,
    unreadable: Unreadable | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[Indices, PerQuery, list[Worst]]:
    """Search by VIEWS_EACH views of each picture of ``rows``. Return rows of queries, measures, worst queries.

    ``within``: a queryset of products; None for all. ``unreadable`` receives why pictures couldn't be read.
    """
    catalogue = gallery.catalogue
    products = all_rows(field.product_model) if within is None else within
    queries, rankings, right, poor = [], [], [], []
    names = [catalogue.images[row] for row in rows]
    for place, picture in large_pictures(field, names, spec, unreadable):
        row = int(rows[place])
        product = catalogue.products[row]
        for view in altered_views(picture, VIEWS_EACH, [seed, place]):
            photo = as_photo(view, spec)
            results = search_by_image(
                photo, field.label, limit=min(DEPTH, conf.MAX_LIMIT), within=products, ranking=False
            )
            ranking = [str(hit.product.pk) for hit in results]
            queries.append(row)
            rankings.append(ranking)
            right.append({product})
            rank = ranking.index(product) + 1 if product in ranking else None
            if rank != 1:
                hits = [
                    RankedHit(
                        stored_picture_name(field, hit.row),
                        str(hit.product.pk),
                        hit.similarity,
                        str(hit.product.pk) == product,
                    )
                    for hit in list(results)[:SHOWN_HITS]
                ]
                poor.append(Worst(ALTERED_VIEWS, catalogue.images[row], product, rank, hits, photo))
                poor = sorted(poor, key=lambda worst: -(worst.rank or DEPTH + 1))[:MOST_WORST]
        progress(place + 1)
    return np.array(queries, np.intp), evaluate_lists(rankings, right), poor


def stored_picture_name(field: EmbeddingField, row: Any) -> str:
    """Return the name in its storage of the picture that a row's vector was made from."""
    for name in str(field.source).split("__"):
        row = getattr(row, name)
    return str(row.name)


STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROBUSTNESS_KS = (1, 5)

ALTERATION_WORDS: dict[str, tuple[Callable[[float], str], str]] = {
    "rotation": (lambda s: f"up to {90 * s:.0f}°", "turned left or right"),
    "blur": (lambda s: f"up to {3 * s:.2g} %", "radius in parts of the shorter side"),
    "crop": (lambda s: f"{100 * (1 - s / 2):.0f} %", "of each side is left"),
    "light": (lambda s: f"up to {1 + s:.3g} ×", "brightness, contrast and colour, each up or down"),  # noqa: RUF001
    "JPEG": (lambda s: f"{max(5, round(90 - 85 * s))}", "quality of the file"),
}
"""By alteration of ``learning.augment``: a strength in words, and what it measures."""


def robustness(
    field: EmbeddingField,
    extractor: Extractor,
    gallery: Gallery,
    rows: NDArray[np.intp],
    *,
    seed: int,
    unreadable: Unreadable | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> list[RobustnessCurve]:
    """Measure a curve for each alteration in ALTERATION_WORDS; any picture of the product is right, itself too."""
    catalogue, spec = gallery.catalogue, extractor.spec
    products = np.array(catalogue.products, object)
    ranks: dict[tuple[str, float], list[int]] = defaultdict(list)
    cosines: dict[tuple[str, float], list[float]] = defaultdict(list)
    for place, picture in large_pictures(field, [catalogue.images[row] for row in rows], spec, unreadable):
        row = int(rows[place])
        photos = list(_views(picture, spec, [seed, place]))
        queries = unit(extractor(np.stack([prepare_photo(photo, spec) for _, photo in photos])))
        similarities = queries @ gallery.vectors.T
        own = products == products[row]
        best, own_cosine = similarities[:, own].max(axis=1), similarities[:, row]
        before = (similarities[:, ~own] > best[:, None]).sum(axis=1)
        for (key, _), count, cosine in zip(photos, before, own_cosine, strict=True):
            ranks[key].append(int(count) + 1)
            cosines[key].append(float(cosine))
        progress(place + 1)
    if not ranks:
        return []
    return [
        RobustnessCurve(
            name,
            about,
            list(STRENGTHS),
            ["unaltered", *(words(strength) for strength in STRENGTHS[1:])],
            {k: [float(np.mean(np.array(ranks[_cache_key(name, s)]) <= k)) for s in STRENGTHS] for k in ROBUSTNESS_KS},
            [float(np.mean(cosines[_cache_key(name, s)])) for s in STRENGTHS],
        )
        for name, (words, about) in ALTERATION_WORDS.items()
    ]


def _cache_key(name: str, strength: float) -> tuple[str, float]:
    """Return the key of an alteration; strength 0 is the same picture for all of them."""
    return (name if strength else "", strength)


def _views(picture: Image.Image, spec: ExtractorSpec, seed: list[int]) -> Iterator[tuple[tuple[str, float], bytes]]:
    yield _cache_key("", 0.0), as_photo(picture, spec)
    for number, name in enumerate(ALTERATION_WORDS):
        for strength in STRENGTHS[1:]:
            # Compression is an alteration too: as_photo must not add to it.
            yield _cache_key(name, strength), as_photo(alter(picture, name.lower(), strength, [*seed, number]), spec)
