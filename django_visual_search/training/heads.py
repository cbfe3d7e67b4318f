"""What a new head is measured against: the vectors that serve now.

Learns a head from what the shop has, and measures it against what serves.

Learned heads go into the database, as rows that every process can read.
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
from ..learning import first_hits
from ..learning.heads import Trained, train_head
from ..learning.labels import grouping
from ..learning.lda import Settings
from ..learning.selection import Plan
from ..learning.serialise import digest, head_bytes
from ..learning.splits import Split
from ..models import EmbeddingHead
from ..spaces.extractors import get_extractor
from ..spaces.heads import backbone_of, extractor_of_space
from ..spaces.serving import serving
from .features import catalogue_features, view_features
from .supervision import LIKED, PRODUCT, VIEWS, Supervision


@dataclass(frozen=True)
class Baseline:
    """What serves a field, for ``learning.heads.train_head``."""

    rows: NDArray[np.float32]
    """``(n, d)``: vectors of the pictures, or with ``settings`` features."""
    settings: Settings | None
    """How the head that serves was learned: it knows all pictures, so others like it are measured instead."""
    key: str
    """Of the extractor that serves."""
    flattered: str = ""
    """Name of a head that serves and can't be learned anew without the held-out pictures; empty if there is none."""


def baseline(field: EmbeddingField, features_key: str, given: Supervision) -> Baseline:
    """What serves now. ``features_key``: of the backbone that ``given`` has features of.

    Raises ImproperlyConfigured and ExtractorUnavailable where what serves can't run.
    """
    space = serving(field).wanted
    now = extractor_of_space(field, space)
    if not isinstance(now, BackboneExtractor):
        now = backbone_of(now, {}, field.dimensions)  # says why it can't be
    if space.head is None:
        return Baseline(_rows(field, now, features_key, given, learned=False), None, now.spec.key)
    head = EmbeddingHead.objects.using(router.db_for_read(field.model)).get(pk=space.head)
    settings = _settings(head, given)
    # A backbone that was tuned knows the pictures, whatever head is on it; where the new head is on it too, both do.
    tuned_apart = bool(head.backbone) and now.features_key != features_key
    flattered = head.name if settings is None or tuned_apart else ""
    rows = _rows(field, now, features_key, given, learned=settings is not None)
    return Baseline(rows, settings, now.spec.key, flattered)


def _settings(head: EmbeddingHead, given: Supervision) -> Settings | None:
    """How the head was learned, where that is known: labels that it didn't have count nothing."""
    stored = head.summary.get("settings")
    if stored is None:
        return None
    had = {PRODUCT, *head.summary.get("labels", ()), *stored["weights"]}
    weights = {name: float(stored["weights"].get(name, 1.0)) if name in had else 0.0 for name in given.labels}
    return Settings(stored["dimensions"], stored["shrinkage"], stored["residual"], weights)


def _rows(
    field: EmbeddingField, now: BackboneExtractor, features_key: str, given: Supervision, *, learned: bool
) -> NDArray[np.float32]:
    """The vectors of pictures and views; their features where ``learned``."""

    def made(features: NDArray[np.float16]) -> NDArray[Any]:
        return features.astype(np.float32) if learned else now.project(features)

    if now.features_key == features_key:
        return made(given.features)
    own = given.view < 0
    first = made(catalogue_features(field, now, given.catalogue).rows[given.pictures[own]])
    rows = np.zeros((len(given.view), first.shape[1]), np.float32)
    rows[own] = first
    viewed = np.unique(given.pictures[~own])
    views = view_features(field, now, given.catalogue, viewed.tolist(), VIEWS) if len(viewed) else []
    for number, one in enumerate(views):
        this = given.view == number
        rows[this] = made(one.rows[np.searchsorted(viewed, given.pictures[this])])
    return rows


STRANGERS = 120
"""Drawn pictures of nothing that is sold, for which confidence is to be low."""

MIXTURES = (0.0, 0.3)
"""Weights of the named labels and of feedback beside the product's own pictures."""


@dataclass(frozen=True)
class Base:
    """A backbone, without a head, that heads are learned for."""

    alias: str
    """Of the extractor in the settings."""
    extractor: BackboneExtractor
    columns: dict[str, Any]
    """Of an EmbeddingHead that is learned on it: the artifact and its options, where the backbone is a tuned one."""


def base_of(field: EmbeddingField, alias: str | None = None) -> Base:
    """The backbone that serves the field now, or that of an extractor of the settings.

    Raises ImproperlyConfigured for an unknown extractor and one that has no features to learn from.
    """
    if alias is not None:
        return Base(alias, backbone_of(get_extractor(alias, field.dimensions), {}, field.dimensions), {})
    space = serving(field).wanted
    base, columns = get_extractor(space.extractor, field.dimensions), {}
    if space.head is not None:
        row = EmbeddingHead.objects.using(router.db_for_read(field.model)).get(pk=space.head)
        if row.backbone:
            columns = {"backbone": row.backbone, "artifact_id": row.artifact_id}
    return Base(space.extractor, backbone_of(base, columns.get("backbone", {}), field.dimensions), columns)


def train(
    given: Supervision,
    base: Base,
    before: Baseline,
    *,
    kind: str | None,
    seed: int,
    dimensions: int,
    progress: Callable[[str], None],
    inner: Sequence[Split] | None = None,
) -> Trained:
    """See ``learning.heads.train_head``. ``kind``: the label by which hits are of the right kind, if any."""
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


def plan_for(given: Supervision, *, kind: str | None, seed: int, dimensions: int) -> Plan:
    """Pictures of one product are to find each other; where there are none, those of one kind."""
    group = grouping(PRODUCT, given.labels[PRODUCT], len(given.features))
    target = PRODUCT if group.spare or kind is None else kind
    named = [name for name in given.labels if name not in (PRODUCT, LIKED, target)]
    mixtures: list[dict[str, float]] = [_weights(given, named, weight, LIKED) for weight in MIXTURES]
    if not named and LIKED not in given.labels:
        mixtures = mixtures[:1]
    # No label at all leaves the principal axes, which is what a tuned backbone may do best with.
    mixtures.append(dict.fromkeys(given.labels, 0.0))
    return Plan(dimensions, target, kind=kind, category=kind, seed=seed, mixtures=mixtures)


@functools.lru_cache(maxsize=4)
def stranger_features(extractor: BackboneExtractor) -> NDArray[np.float16]:
    """Features of drawn pictures, prepared as a customer's photo is, ``(STRANGERS, width)``."""
    spec, rows = extractor.spec, []
    for picture in first_hits.drawn(STRANGERS):
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
    trained: Trained,
    extractor: BackboneExtractor,
    *,
    alias: str,
    baseline_key: str,
    summary: dict[str, Any],
    name: str | None = None,
    **backbone: Any,
) -> tuple[EmbeddingHead, bool]:
    """Store a trained head as a candidate; its row, or that of an equal head there is already, and whether it is new.

    ``extractor``: the backbone, without a head. ``alias``: its name in the settings. ``backbone``: further columns, of
    a fine-tuned one. Raises ValueError where the name is taken.
    """
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model))
    key = extractor.with_head(trained.head).spec.key
    known = heads.filter(key=key).first()
    if known is not None:
        return known, False
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
        "sha256": digest(data),
        "summary": {**summary, **_summary(trained)},
        "baseline_key": baseline_key,
        "metrics": figures(trained),
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


def _summary(trained: Trained) -> dict[str, Any]:
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


def figures(trained: Trained) -> list[dict[str, Any]]:
    """What held-out pictures said, by task, for a JSONField."""
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
    """JSON has no NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in measures.items()}
