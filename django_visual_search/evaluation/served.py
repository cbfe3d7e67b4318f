"""Measure a field's present search: its vectors, plans and speed, and whether its confidence is true.

Entry function: ``evaluate_field``, which answers every question of an evaluation with a seeded sample of queries.
``ann_recall``, ``latency`` and ``reliability`` measure the search itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from django.db import router
from django.db.models import Min, Value
from numpy.typing import NDArray
from pgvector.django import CosineDistance, L2Distance, MaxInnerProduct

from .. import images
from ..db.rows import all_rows
from ..decoding.decoder import DecoderLost
from ..decoding.photos import decode_photo
from ..extractors import Extractor
from ..fields import EmbeddingField
from ..fields.keys import file_name
from ..fields.products import with_product
from ..learning.calibration import Calibration, brier, calibration_error
from ..learning.metrics import PerQuery
from ..models import EmbeddingHead
from ..search.candidates import candidates, embedded, fetch, products
from ..search.nearest import nearest
from ..search.query import Query
from ..spaces.heads import serving_extractor
from ..spaces.live import live_spaces
from .altered import robustness, search_by_views
from .catalogue import Indices, draw_sample, pictures_each
from .figures import ANN_K, AnnRecall, Evaluation, Latency, Reliability, ServingHead, TaskFigures
from .gallery import (
    GALLERY_LIMIT,
    Gallery,
    by_label,
    confusion,
    load_gallery,
    nearest_rows,
    other_pictures,
    same_labelled,
    worst,
)
from .pictures import Unreadable
from .space import ALTERED_VIEWS, OTHER_PICTURES, described_task, same_label

QUERY_LIMIT = 500
ROBUSTNESS_PICTURES = 60
SEARCHES = 100

Start = Callable[[str, int], Callable[[int], None]]
"""Begin a step, with its name and number of pictures; return a function that takes the number done so far."""


def evaluate_field(
    field: EmbeddingField,
    *,
    labels: Sequence[str] = (),
    limit: int = QUERY_LIMIT,
    seed: int = 0,
    within: Any = None,
    robustness_pictures: int = ROBUSTNESS_PICTURES,
    searches: int = SEARCHES,
    gallery_limit: int = GALLERY_LIMIT,
    start: Start = lambda name, total: lambda count: None,
) -> Evaluation:
    """Measure with at most ``limit`` of the field's pictures as queries; equal seeds give equal figures, except times.

    ``labels``: paths from the product; figures are also given by each of their values. ``within``: a queryset of
    products; None for all. ``robustness_pictures``: pictures altered in every way, which makes and embeds 21 photos of
    each. ``searches``: searches that are timed and compared with exact ones. ``gallery_limit``: see ``load_gallery``.

    Raises LookupError for an unknown label, ValueError where no picture has a vector in the serving space, and
    ExtractorUnavailable where the extractor can't run here.
    """
    space, extractor = live_spaces(field).serving, serving_extractor(field)
    head = _head(field, space.head)
    kind = None if head is None else next(iter(head.summary.get("labels", ())), None)
    read = list(dict.fromkeys([*labels, *([kind] if kind else [])]))
    gallery = load_gallery(field, extractor.spec.key, read, within=within, seed=seed, limit=gallery_limit)
    if not len(gallery):
        raise ValueError(
            f"No picture of {field.label} has a vector of {extractor.spec.key}, so there is nothing to search in: run "
            "`manage.py reindex_embeddings` first."
        )
    rows = draw_sample(gallery.catalogue.products, limit, seed)
    if not len(rows):
        raise ValueError(f"No picture of {field.label} that has a vector belongs to a product.")
    shuffled = np.random.default_rng(seed).permutation(rows)
    unreadable, tasks, wrong = Unreadable(), [], []
    if (found := other_pictures(gallery, rows)) is not None:
        tasks.append(_measure_task(OTHER_PICTURES, gallery, labels, *found))
        wrong += worst(gallery, *found)
    single = rows[pictures_each(gallery.catalogue.products)[rows] == 1]
    if len(single):
        progress = start("altered views", len(single))
        missing = Unreadable()
        queries, per_query, poor = search_by_views(
            field, extractor.spec, gallery, single, seed=seed, within=within, unreadable=missing, progress=progress
        )
        _note(unreadable, missing, single)
        if len(queries):
            tasks.append(_measure_task(ALTERED_VIEWS, gallery, labels, queries, per_query))
            wrong += poor
    for label in labels:
        if (found := same_labelled(gallery, rows, label)) is not None:
            tasks.append(_measure_task(same_label(label), gallery, labels, *found))
    few = np.sort(shuffled[:robustness_pictures])
    missing = Unreadable()
    curves = robustness(
        field, extractor, gallery, few, seed=seed, unreadable=missing, progress=start("robustness", len(few))
    )
    _note(unreadable, missing, few)
    searched = np.sort(shuffled[:searches])
    names = [gallery.catalogue.images[row] for row in searched]
    return Evaluation(
        label=field.label,
        extractor=space.extractor,
        space=gallery.space,
        pictures=len(gallery),
        without=gallery.without,
        drawn_from=gallery.drawn_from,
        complete=gallery.complete,
        queries=len(rows),
        seed=seed,
        limit=limit,
        tasks=tasks,
        robustness=curves,
        robustness_queries=len(few) - len(missing.reasons),
        ann=ann_recall(field, gallery, searched, within=within, progress=start("index against exact", len(searched))),
        latency=latency(field, extractor, names, within=within, progress=start("latency", len(names))),
        confusion=[table for label in labels if (table := confusion(gallery, rows, label)) is not None],
        worst=wrong,
        reliability=None if head is None else _reliability(head, gallery, rows, kind),
        learned=None if head is None else _learned(head),
        unreadable={gallery.catalogue.images[row]: why for row, why in sorted(unreadable.reasons.items())},
    )


def _measure_task(
    name: str, gallery: Gallery, labels: Sequence[str], queries: Indices, per_query: PerQuery
) -> TaskFigures:
    values = gallery.catalogue.labels
    figures = {label: by_label(per_query, [values[label][row] for row in queries]) for label in labels}
    return TaskFigures(name, described_task(name), per_query.mean(), figures)


def _note(unreadable: Unreadable, missing: Unreadable, rows: Indices) -> None:
    """Copy reasons from places among ``rows`` to rows of the gallery."""
    unreadable.reasons.update({int(rows[place]): why for place, why in missing.reasons.items()})


def _head(field: EmbeddingField, pk: int | None) -> EmbeddingHead | None:
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model)).defer("data")
    return None if pk is None else heads.filter(pk=pk).first()


def _learned(head: EmbeddingHead) -> ServingHead:
    return ServingHead(head.name, head.get_method_display(), head.created_at, list(head.metrics), dict(head.summary))


def _reliability(head: EmbeddingHead, gallery: Gallery, rows: Indices, kind: str | None) -> Reliability | None:
    """Compare confidence with truth. ``kind``: the label by which hits were right too when confidence was learned."""
    if not head.calibration:
        return None
    return reliability(Calibration.from_json(head.calibration), gallery, rows, kind)


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
    found, product = with_product(field, embedded(field, rows, space, None).order_by())
    nearest_first = found.values(product).annotate(_visual_distance=Min(distance)).order_by("_visual_distance")
    return list(nearest_first.values_list("_visual_distance", flat=True)[:ANN_K])


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
            with storage.open(file_name(field, name), "rb") as file:
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
