"""Measures the search that a field has now: its vectors, its plans, its speed."""

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
from .altered import altered_views, robustness
from .catalogue import Indices, pictures_each, sample
from .figures import Evaluation, Learned, Reliability, Task
from .gallery import Gallery, load_gallery
from .pictures import Unreadable
from .space import OTHER_PICTURES, VIEWS, described, same_label
from .speed import ann_recall, latency, reliability
from .stored import by_label, confusion, other_pictures, same, worst

LIMIT = 500
ROBUSTNESS_LIMIT = 60
"""Pictures that are altered in every way: 21 photos are made and embedded of each."""
SEARCHES = 100
"""Whose neighbours are compared with the exact ones, and whose time is taken."""

Start = Callable[[str, int], Callable[[int], None]]
"""Begins a step: its name and how many pictures it has; what it returns is told how many are through."""


def evaluate_field(
    field: EmbeddingField,
    *,
    labels: Sequence[str] = (),
    limit: int = LIMIT,
    seed: int = 0,
    within: Any = None,
    start: Start = lambda name, total: lambda count: None,
) -> Evaluation:
    """Measure with at most ``limit`` of the field's pictures as queries; the same with the same seed, but for times.

    ``labels``: paths from the product that figures are told apart by. ``within``: a queryset of products; None for all.

    Raises LookupError for an unknown label, ValueError where no picture has a vector in the space that serves, and
    ExtractorUnavailable where the extractor can't run here.
    """
    space, extractor = serving(field).wanted, wanted_extractor(field)
    head = _head(field, space.head)
    kind = None if head is None else next(iter(head.summary.get("labels", ())), None)
    read = list(dict.fromkeys([*labels, *([kind] if kind else [])]))
    gallery = load_gallery(field, extractor.spec.key, read, within=within, seed=seed)
    if not len(gallery):
        raise ValueError(
            f"No picture of {field.label} has a vector of {extractor.spec.key}, so there is nothing to search in: run "
            "`manage.py reindex_embeddings` first."
        )
    rows = sample(gallery.catalogue.products, limit, seed)
    if not len(rows):
        raise ValueError(f"No picture of {field.label} that has a vector belongs to a product.")
    shuffled = np.random.default_rng(seed).permutation(rows)
    unreadable, tasks, wrong = Unreadable(), [], []
    if (found := other_pictures(gallery, rows)) is not None:
        tasks.append(_task(OTHER_PICTURES, gallery, labels, *found))
        wrong += worst(gallery, *found)
    single = rows[pictures_each(gallery.catalogue.products)[rows] == 1]
    if len(single):
        told = start("altered views", len(single))
        missing = Unreadable()
        queries, per_query, poor = altered_views(
            field, extractor.spec, gallery, single, seed=seed, within=within, unreadable=missing, progress=told
        )
        _note(unreadable, missing, single)
        if len(queries):
            tasks.append(_task(VIEWS, gallery, labels, queries, per_query))
            wrong += poor
    for label in labels:
        if (found := same(gallery, rows, label)) is not None:
            tasks.append(_task(same_label(label), gallery, labels, *found))
    few = np.sort(shuffled[:ROBUSTNESS_LIMIT])
    missing = Unreadable()
    curves = robustness(
        field, extractor, gallery, few, seed=seed, unreadable=missing, progress=start("robustness", len(few))
    )
    _note(unreadable, missing, few)
    asked = np.sort(shuffled[:SEARCHES])
    names = [gallery.catalogue.images[row] for row in asked]
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
        ann=ann_recall(field, gallery, asked, within=within, progress=start("index against exact", len(asked))),
        latency=latency(field, extractor, names, within=within, progress=start("latency", len(names))),
        confusion=[table for label in labels if (table := confusion(gallery, rows, label)) is not None],
        worst=wrong,
        reliability=None if head is None else _reliability(head, gallery, rows, kind),
        learned=None if head is None else _learned(head),
        unreadable={gallery.catalogue.images[row]: why for row, why in sorted(unreadable.reasons.items())},
    )


def _task(name: str, gallery: Gallery, labels: Sequence[str], queries: Indices, per_query: PerQuery) -> Task:
    known = gallery.catalogue.labels
    told = {label: by_label(per_query, [known[label][row] for row in queries]) for label in labels}
    return Task(name, described(name), per_query.mean(), told)


def _note(told: Unreadable, missing: Unreadable, rows: Indices) -> None:
    """From places among the pictures asked for to rows of the gallery."""
    told.reasons.update({int(rows[place]): why for place, why in missing.reasons.items()})


def _head(field: EmbeddingField, pk: int | None) -> EmbeddingHead | None:
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model)).defer("data")
    return None if pk is None else heads.filter(pk=pk).first()


def _learned(head: EmbeddingHead) -> Learned:
    return Learned(head.name, head.get_method_display(), head.created_at, list(head.metrics), dict(head.summary))


def _reliability(head: EmbeddingHead, gallery: Gallery, rows: Indices, kind: str | None) -> Reliability | None:
    """``kind``: the label by which hits were right too when confidence was learned."""
    if not head.calibration:
        return None
    return reliability(Calibration.from_json(head.calibration), gallery, rows, kind)
