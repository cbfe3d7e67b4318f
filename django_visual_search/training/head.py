"""Learn a head from the shop's pictures, measure it against the vectors that serve now, and store it.

Entry functions, in the order of a training: ``backbone_for``, ``baseline``, ``train`` and ``keep_head``. A ``Backbone``
is an extractor without a head; the ``Baseline`` is what a new head is compared with; a stored head is a *candidate*
until a switch lets it serve.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from django.db import IntegrityError, router, transaction
from numpy.typing import NDArray

from .. import images
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..learning.confidence import draw_strangers
from ..learning.labels import grouping
from ..learning.lda import HeadSettings
from ..learning.selection import TrainingPlan
from ..learning.serialise import head_bytes, sha256_hex
from ..learning.splits import Split
from ..learning.train import TrainedHead, train_head
from ..models import EmbeddingHead
from ..spaces.extractors import get_extractor
from ..spaces.heads import backbone_of, extractor_of_space
from ..spaces.serving import serving
from .features import catalogue_features, view_features
from .supervision import LIKED, PRODUCT, VIEWS_OF_SINGLE, Supervision


@dataclass(frozen=True)
class Backbone:
    """An extractor without a head, that heads are learned for."""

    alias: str
    """Of the extractor in the settings."""
    extractor: BackboneExtractor
    columns: dict[str, Any]
    """Columns of an EmbeddingHead on it: the artifact and its options of a fine-tuned backbone, else none."""


def backbone_for(field: EmbeddingField, alias: str | None = None) -> Backbone:
    """Return the backbone that serves the field now, or that of an extractor of the settings.

    Raises ImproperlyConfigured for an unknown extractor and one without features to learn from.
    """
    if alias is not None:
        return Backbone(alias, backbone_of(get_extractor(alias, field.dimensions), {}, field.dimensions), {})
    space = serving(field).wanted
    base, columns = get_extractor(space.extractor, field.dimensions), {}
    if space.head is not None:
        row = EmbeddingHead.objects.using(router.db_for_read(field.model)).get(pk=space.head)
        if row.backbone:
            columns = {"backbone": row.backbone, "artifact_id": row.artifact_id}
    return Backbone(space.extractor, backbone_of(base, columns.get("backbone", {}), field.dimensions), columns)


@dataclass(frozen=True)
class Baseline:
    """The vectors that serve a field, for ``learning.train.train_head``."""

    rows: NDArray[np.float32]
    """``(n, d)``: vectors of the pictures, or with ``settings`` features."""
    settings: HeadSettings | None
    """Settings of the head that serves: it knows all pictures, so heads like it are measured instead."""
    key: str
    """Of the extractor that serves."""
    flattered: str = ""
    """Name of the serving head if it can't be learned again without the held-out pictures; else empty."""


def baseline(field: EmbeddingField, features_key: str, given: Supervision) -> Baseline:
    """Return what serves now. ``features_key``: of the backbone of the features in ``given``.

    Raises ImproperlyConfigured and ExtractorUnavailable where the serving extractor can't run.
    """
    space = serving(field).wanted
    now = extractor_of_space(field, space)
    if not isinstance(now, BackboneExtractor):
        now = backbone_of(now, {}, field.dimensions)  # raises, saying why
    if space.head is None:
        return Baseline(_rows(field, now, features_key, given, learned=False), None, now.spec.key)
    head = EmbeddingHead.objects.using(router.db_for_read(field.model)).get(pk=space.head)
    settings = _settings(head, given)
    # A fine-tuned backbone knows the pictures, whatever its head; with the new head on it too, the comparison is fair.
    tuned_apart = bool(head.backbone) and now.features_key != features_key
    flattered = head.name if settings is None or tuned_apart else ""
    rows = _rows(field, now, features_key, given, learned=settings is not None)
    return Baseline(rows, settings, now.spec.key, flattered)


def _settings(head: EmbeddingHead, given: Supervision) -> HeadSettings | None:
    """Return the head's settings if they were stored; labels that it didn't have weigh 0."""
    stored = head.summary.get("settings")
    if stored is None:
        return None
    had = {PRODUCT, *head.summary.get("labels", ()), *stored["weights"]}
    weights = {name: float(stored["weights"].get(name, 1.0)) if name in had else 0.0 for name in given.labels}
    return HeadSettings(stored["dimensions"], stored["shrinkage"], stored["residual"], weights)


def _rows(
    field: EmbeddingField, now: BackboneExtractor, features_key: str, given: Supervision, *, learned: bool
) -> NDArray[np.float32]:
    """Return the vectors of pictures and views, ``(n, d)``; their features where ``learned``."""

    def made(features: NDArray[np.float16]) -> NDArray[Any]:
        return features.astype(np.float32) if learned else now.project(features)

    if now.features_key == features_key:
        return made(given.features)
    own = given.view < 0
    first = made(catalogue_features(field, now, given.catalogue).rows[given.pictures[own]])
    rows = np.zeros((len(given.view), first.shape[1]), np.float32)
    rows[own] = first
    viewed = np.unique(given.pictures[~own])
    views = view_features(field, now, given.catalogue, viewed.tolist(), VIEWS_OF_SINGLE) if len(viewed) else []
    for number, one in enumerate(views):
        this = given.view == number
        rows[this] = made(one.rows[np.searchsorted(viewed, given.pictures[this])])
    return rows


STRANGER_PICTURES = 120
"""Drawn pictures of things that no shop sells, for which confidence is to be low."""

MIXTURES = (0.0, 0.3)
"""Weights of the named labels and of feedback beside the product's own pictures."""


def train(
    given: Supervision,
    base: Backbone,
    before: Baseline,
    *,
    kind: str | None,
    seed: int,
    dimensions: int,
    progress: Callable[[str], None],
    inner: Sequence[Split] | None = None,
) -> TrainedHead:
    """Learn a head from ``given``. ``kind``: the label by which hits are of the right kind, if any; ``inner`` and
    errors: see ``learning.train.train_head``.
    """
    return train_head(
        given.features.astype(np.float32),
        given.labels,
        plan_for(given, kind=kind, seed=seed, dimensions=dimensions),
        before=before.rows,
        learned_before=before.settings,
        scenes=given.scenes,
        strangers=stranger_features(base.extractor).astype(np.float32),
        inner=inner,
        progress=progress,
    )


def plan_for(given: Supervision, *, kind: str | None, seed: int, dimensions: int) -> TrainingPlan:
    """Plan for pictures of one product to find each other; pictures of one ``kind`` where no product has several."""
    group = grouping(PRODUCT, given.labels[PRODUCT], len(given.features))
    target = PRODUCT if group.spare or kind is None else kind
    named = [name for name in given.labels if name not in (PRODUCT, LIKED, target)]
    mixtures: list[dict[str, float]] = [_weights(given, named, weight, LIKED) for weight in MIXTURES]
    if not named and LIKED not in given.labels:
        mixtures = mixtures[:1]
    # No label at all leaves the principal axes, which may suit a fine-tuned backbone best.
    mixtures.append(dict.fromkeys(given.labels, 0.0))
    return TrainingPlan(dimensions, target, kind=kind, category=kind, seed=seed, mixtures=mixtures)


@functools.lru_cache(maxsize=4)
def stranger_features(extractor: BackboneExtractor) -> NDArray[np.float16]:
    """Return features of drawn pictures, prepared as a customer's photo is, ``(STRANGERS, width)``."""
    spec, rows = extractor.spec, []
    for picture in draw_strangers(STRANGER_PICTURES):
        file = BytesIO()
        picture.save(file, "JPEG", quality=90)
        loaded = images.load(file.getvalue(), options=spec.images, size=spec.input_size)
        rows.append(extractor.kept_features(np.asarray(loaded)[None])[0])
    return np.stack(rows)


def _weights(given: Supervision, named: Sequence[str], weight: float, liked: str) -> dict[str, float]:
    weights = dict.fromkeys(named, weight)
    if liked in given.labels:
        weights[liked] = weight
    return weights


def keep_head(
    field: EmbeddingField,
    trained: TrainedHead,
    extractor: BackboneExtractor,
    *,
    alias: str,
    baseline_key: str,
    summary: dict[str, Any],
    name: str | None = None,
    **backbone: Any,
) -> tuple[EmbeddingHead, bool]:
    """Store a trained head as a candidate. Return its row, or the row of an equal head, and whether it is new.

    ``extractor``: the backbone, without a head. ``alias``: its name in the settings. ``backbone``: further columns, of
    a fine-tuned one. Raises ValueError where the name is taken.
    """
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model))
    key = extractor.with_head(trained.head).spec.key
    equal = heads.filter(key=key).first()
    if equal is not None:
        return equal, False
    data = head_bytes(trained.head)
    method = EmbeddingHead.Method.FINETUNE if backbone else EmbeddingHead.Method.HEAD
    columns = {
        "label": field.label,
        "method": method,
        "extractor": alias,
        "features_key": extractor.features_key,
        "key": key,
        "dimensions": trained.head.dimensions,
        "data": data,
        "sha256": sha256_hex(data),
        "summary": {**summary, **_summary(trained)},
        "baseline_key": baseline_key,
        "metrics": metrics_json(trained),
        "calibration": None if trained.calibration is None else trained.calibration.as_json(),
        **backbone,
    }
    for number in range(1, 10_000):
        try:
            with transaction.atomic(using=heads.db):
                row = heads.create(name=name or f"{field.model._meta.model_name}-{method}-{number}", **columns)
                return row, True
        except IntegrityError:
            if name:
                raise ValueError(f"There is a head {name!r} already: choose another name.") from None
    raise ValueError("There are too many heads; name this one.")


def _summary(trained: TrainedHead) -> dict[str, Any]:
    settings = trained.settings
    return {
        "settings": {
            "dimensions": settings.dimensions,
            "shrinkage": settings.shrinkage,
            "residual": settings.residual,
            "weights": dict(settings.weights),
        },
        "named_dimensions": trained.learned.named,
        "tried": [{"objective": round(one.objective, 4), **_brief(one.settings)} for one in trained.tried],
        "seconds": round(trained.seconds, 1),
        "notes": list(trained.notes),
    }


def _brief(settings: Any) -> dict[str, Any]:
    return {"shrinkage": settings.shrinkage, "residual": settings.residual, "weights": dict(settings.weights)}


def metrics_json(trained: TrainedHead) -> list[dict[str, Any]]:
    """Return the figures on held-out pictures, by task, for a JSONField."""
    return [
        {
            "task": outcome.split.task,
            "held_out": len(outcome.split.held_out),
            "train": len(outcome.split.train),
            "leaked": outcome.split.leaked,
            "before": _plain(outcome.before.as_dict()),
            "after": _plain(outcome.after.as_dict()),
        }
        for outcome in trained.outcomes
    ]


def _plain(measures: dict[str, float]) -> dict[str, float | None]:
    """Round measures for JSON, which has no NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in measures.items()}
