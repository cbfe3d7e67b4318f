"""Measure the search that a field has now: its vectors, its plans, its speed.

Entry function: ``evaluate_field``, which answers every question of an evaluation with a seeded sample of queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from django.db import router

from ..fields import EmbeddingField
from ..learning.calibration import Calibration
from ..learning.metrics import PerQuery
from ..models import EmbeddingHead
from ..spaces.heads import wanted_extractor
from ..spaces.serving import serving
from .altered import robustness, search_by_views
from .catalogue import Indices, draw_sample, pictures_each
from .figures import Evaluation, Reliability, ServingHead, TaskFigures
from .gallery import GALLERY_LIMIT, Gallery, by_label, confusion, load_gallery, other_pictures, same_labelled, worst
from .pictures import Unreadable
from .space import ALTERED_VIEWS, OTHER_PICTURES, described, same_label
from .speed import ann_recall, latency, reliability

QUERY_LIMIT = 500
ROBUSTNESS_PICTURES = 60
SEARCHES = 100

Start = Callable[[str, int], Callable[[int], None]]
"""Begins a step, by its name and number of pictures; returns a function that receives how many are through."""


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
    space, extractor = serving(field).wanted, wanted_extractor(field)
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
        tasks.append(_task(OTHER_PICTURES, gallery, labels, *found))
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
            tasks.append(_task(ALTERED_VIEWS, gallery, labels, queries, per_query))
            wrong += poor
    for label in labels:
        if (found := same_labelled(gallery, rows, label)) is not None:
            tasks.append(_task(same_label(label), gallery, labels, *found))
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


def _task(name: str, gallery: Gallery, labels: Sequence[str], queries: Indices, per_query: PerQuery) -> TaskFigures:
    values = gallery.catalogue.labels
    figures = {label: by_label(per_query, [values[label][row] for row in queries]) for label in labels}
    return TaskFigures(name, described(name), per_query.mean(), figures)


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
