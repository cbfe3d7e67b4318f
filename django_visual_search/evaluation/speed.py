"""What the index leaves out, and where the time of a search by photo goes.

Whether the confidence that hits are given is the share of them that is right.
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
from ..extractors import Extractor
from ..fields import EmbeddingField
from ..learning.calibration import Calibration, brier, calibration_error
from ..search.candidates import candidates, embedded, fetch, product_pk, products
from ..search.nearest import nearest
from ..search.query import Query
from .figures import AnnRecall, Latency, Reliability
from .gallery import Gallery
from .stored import nearest_rows

K = 10
PAGE = 24
"""Hits of the search whose time is taken."""
WARM_UP = 3
ROUNDING = 1e-4
"""By which two distances of halves may differ and be equal, as computed in different places."""

DISTANCES = {"cosine": CosineDistance, "l2": L2Distance, "ip": MaxInnerProduct}
STAGES = ("decode", "inference", "SQL", "fetch", "all")

Tell = Callable[[int], None]


def ann_recall(
    field: EmbeddingField,
    gallery: Gallery,
    rows: NDArray[np.intp],
    *,
    within: Any = None,
    progress: Tell = lambda count: None,
) -> AnnRecall:
    """The share of the K nearest products that a search finds as it is planned now, against comparing every row."""
    queryset = products(field, field.product_model._base_manager.all() if within is None else within)
    shares, exact = [], 0
    for count, row in enumerate(rows.tolist(), 1):
        vector = gallery.vectors[row].astype(np.float16)
        truth = _exact(field, gallery.space, vector, queryset)
        found = nearest(field, [Query(vector, gallery.space)], limit=K, within=queryset)
        farthest = max(truth) + ROUNDING
        near = sum(candidate.distance <= farthest for candidate in found.candidates[:K])
        shares.append(near / len(truth))
        exact += found.exact
        progress(count)
    return AnnRecall(K, len(shares), float(np.mean(shares)) if shares else 0.0, exact)


def _exact(field: EmbeddingField, space: str, vector: NDArray[np.float16], within: Any) -> list[float]:
    """Distances of the K nearest products, each by its nearest picture; grouping keeps the index out."""
    rows, _ = candidates(field, within)
    distance = DISTANCES[field.metric](field.name, vector.astype(np.float32)) + Value(0.0)
    found = embedded(field, rows, space, None).order_by().annotate(visual_product=F(product_pk(field)))
    nearest_first = found.values("visual_product").annotate(visual_distance=Min(distance)).order_by("visual_distance")
    return list(nearest_first.values_list("visual_distance", flat=True)[:K])


def latency(
    field: EmbeddingField,
    extractor: Extractor,
    names: list[str],
    *,
    within: Any = None,
    progress: Tell = lambda count: None,
) -> dict[str, Latency]:
    """By stage of STAGES, of searches by the shop's own pictures; those that can't be read are left out."""
    queryset, spec, storage = products(field, within), extractor.spec, field.image_field.storage
    taken: dict[str, list[float]] = defaultdict(list)
    for number, name in enumerate(names):
        try:
            with storage.open(name, "rb") as file:
                data = file.read(spec.images.max_bytes + 1)
            times = [time.perf_counter()]
            picture = images.load(data, options=spec.images, size=spec.input_size)
        except (OSError, images.ImageRefused):
            continue
        times.append(time.perf_counter())
        vector = extractor(np.asarray(picture)[None])[0]
        times.append(time.perf_counter())
        near = nearest(field, [Query(vector, spec.key)], limit=PAGE, within=queryset)
        times.append(time.perf_counter())
        fetch(field, queryset, [candidate.product_pk for candidate in near.candidates])
        times.append(time.perf_counter())
        if number >= WARM_UP or len(names) <= WARM_UP:
            for stage, seconds in zip(STAGES, [*np.diff(times), times[-1] - times[0]], strict=True):
                taken[stage].append(1000 * float(seconds))
        progress(number + 1)
    return {
        stage: Latency(float(np.percentile(ms, 50)), float(np.percentile(ms, 95)), len(ms))
        for stage, ms in taken.items()
    }


BINS = 10
FEWEST = 20
"""First hits without which nothing can be said."""


def reliability(
    calibration: Calibration, gallery: Gallery, rows: NDArray[np.intp], label: str | None
) -> Reliability | None:
    """Of the first hit of each picture, itself left out; right is the same product or, with ``label``, the same label.

    None where there are too few.
    """
    catalogue, raw = gallery.catalogue, gallery.raw
    hits = [(row, *first[0]) for row in rows.tolist() if (first := nearest_rows(gallery, row, 1))]
    if len(hits) < FEWEST:
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
