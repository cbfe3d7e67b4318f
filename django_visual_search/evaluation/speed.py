"""Measure the search itself: what its index misses, where its time goes, and whether its confidence is true.

Entry functions: ``ann_recall``, ``latency`` and ``reliability``.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from django.db.models import F, Min, Value
from numpy.typing import NDArray
from pgvector.django import CosineDistance, L2Distance, MaxInnerProduct

from .. import images
from ..db.rows import all_rows
from ..decoding.decoder import DecoderLost
from ..decoding.photos import decode_photo
from ..extractors import Extractor
from ..fields import EmbeddingField
from ..learning.calibration import Calibration, brier, calibration_error
from ..search.candidates import candidates, embedded, fetch, product_pk, products
from ..search.nearest import nearest
from ..search.query import Query
from .figures import ANN_K, AnnRecall, Latency, Reliability
from .gallery import Gallery, nearest_rows

TIMED_PAGE = 24
"""Hits of a timed search."""
WARM_UP_SEARCHES = 3
ROUNDING = 1e-4
"""Difference of two equal distances of halves that were computed in different places."""

DISTANCES = {"cosine": CosineDistance, "l2": L2Distance, "ip": MaxInnerProduct}
STAGES = ("decode", "inference", "SQL", "fetch", "all")


def ann_recall(
    field: EmbeddingField,
    gallery: Gallery,
    rows: NDArray[np.intp],
    *,
    within: Any = None,
    progress: Callable[[int], None] = lambda count: None,
) -> AnnRecall:
    """Return the share of the ANN_K exactly nearest products that searches find with their present plan."""
    queryset = products(field, all_rows(field.product_model) if within is None else within)
    shares, exact = [], 0
    for count, row in enumerate(rows.tolist(), 1):
        vector = gallery.vectors[row].astype(np.float16)
        truth = _exact(field, gallery.space, vector, queryset)
        found = nearest(field, [Query(vector, gallery.space)], limit=ANN_K, within=queryset)
        farthest = max(truth) + ROUNDING
        near = sum(candidate.distance <= farthest for candidate in found.candidates[:ANN_K])
        shares.append(near / len(truth))
        exact += found.exact
        progress(count)
    return AnnRecall(ANN_K, len(shares), float(np.mean(shares)) if shares else 0.0, exact)


def _exact(field: EmbeddingField, space: str, vector: NDArray[np.float16], within: Any) -> list[float]:
    """Return distances of the ANN_K nearest products, each by its nearest picture; grouping keeps the index out."""
    rows, _ = candidates(field, within)
    distance = DISTANCES[field.metric](field.name, vector.astype(np.float32)) + Value(0.0)
    found = embedded(field, rows, space, None).order_by().annotate(visual_product=F(product_pk(field)))
    nearest_first = found.values("visual_product").annotate(visual_distance=Min(distance)).order_by("visual_distance")
    return list(nearest_first.values_list("visual_distance", flat=True)[:ANN_K])


def latency(
    field: EmbeddingField,
    extractor: Extractor,
    names: list[str],
    *,
    within: Any = None,
    progress: Callable[[int], None] = lambda count: None,
) -> dict[str, Latency]:
    """Time searches by the shop's own pictures, by stage of STAGES; unreadable pictures are left out."""
    queryset, spec, storage = products(field, within), extractor.spec, field.image_field.storage
    taken: dict[str, list[float]] = defaultdict(list)
    for number, name in enumerate(names):
        try:
            with storage.open(name, "rb") as file:
                data = file.read(spec.images.max_bytes + 1)
            times = [time.perf_counter()]
            picture = decode_photo(data, spec.images, spec.input_size)
        except (OSError, images.ImageRefused, DecoderLost):
            continue
        times.append(time.perf_counter())
        vector = extractor(picture[None])[0]
        times.append(time.perf_counter())
        near = nearest(field, [Query(vector, spec.key)], limit=TIMED_PAGE, within=queryset)
        times.append(time.perf_counter())
        fetch(field, queryset, [candidate.product_pk for candidate in near.candidates])
        times.append(time.perf_counter())
        if number >= WARM_UP_SEARCHES or len(names) <= WARM_UP_SEARCHES:
            for stage, seconds in zip(STAGES, [*np.diff(times), times[-1] - times[0]], strict=True):
                taken[stage].append(1000 * float(seconds))
        progress(number + 1)
    return {
        stage: Latency(float(np.percentile(ms, 50)), float(np.percentile(ms, 95)), len(ms))
        for stage, ms in taken.items()
    }


BINS = 10
FEWEST_HITS = 20
"""First hits that reliability needs."""


def reliability(
    calibration: Calibration, gallery: Gallery, rows: NDArray[np.intp], label: str | None
) -> Reliability | None:
    """Compare confidence with truth over the first hit of each picture but itself; None for fewer than FEWEST_HITS.

    A hit is right if it shows the same product or, with ``label``, has the same label.
    """
    catalogue, raw = gallery.catalogue, gallery.raw
    hits = [(row, *first[0]) for row in rows.tolist() if (first := nearest_rows(gallery, row, 1))]
    if len(hits) < FEWEST_HITS:
        return None
    right = np.array([_right(gallery, row, hit, label) for row, hit, _ in hits])
    kinds = [raw[label][hit] for _, hit, _ in hits] if label else None
    confidence = calibration([cosine for _, _, cosine in hits], kinds)
    order = np.argsort(confidence, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    what = f"the same product or {label}" if label else "the same product"
    return Reliability(
        f"First hits of {len(catalogue)} pictures, right where they show {what}."
        if len(hits) == len(catalogue)
        else f"First hits of {len(hits)} of {len(catalogue)} pictures, right where they show {what}.",
        [float(confidence[part].mean()) for part in bins],
        [float(right[part].mean()) for part in bins],
        [len(part) for part in bins],
        calibration_error(confidence, right),
        brier(confidence, right),
    )


def _right(gallery: Gallery, row: int, hit: int, label: str | None) -> bool:
    products = gallery.catalogue.products
    if products[row] == products[hit]:
        return True
    return label is not None and gallery.raw[label][row] == gallery.raw[label][hit] != ""
