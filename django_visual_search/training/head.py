"""Learn a head from the shop's pictures, measure it against the vectors that serve now, and store it.

Entry functions, in the order of a training: ``backbone_for``, ``baseline``, ``train`` and ``keep_head``. A ``Backbone``
is an extractor without a head; a new head is compared with the ``Baseline``; a stored head is a *candidate* until a
switch lets it serve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
from django.db import IntegrityError, router, transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _
from numpy.typing import NDArray

from .. import images
from ..evaluation.text import aligned
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..learning.confidence import draw_strangers
from ..learning.folds import Fold, Question, TrainingPlan
from ..learning.lda import HeadSettings
from ..learning.serialise import head_bytes, sha256_hex
from ..learning.splits import SAME_LABEL, UNSEEN_PRODUCTS
from ..learning.train import TrainedHead, train_head
from ..models import EmbeddingHead
from ..spaces.extractors import get_extractor
from ..spaces.heads import backbone_of, extractor_of_space
from ..spaces.live import live_spaces
from .features import catalogue_features, view_features
from .supervision import LIKED, PRODUCT, Supervision


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
    space = live_spaces(field).serving
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
    untrained: NDArray[np.float32]
    """``(n, u)``: vectors by the backbone that heads are learned for, without a head."""
    flattered: str = ""
    """Name of the serving head if it can't be learned again without the held-out pictures; else empty."""


def baseline(field: EmbeddingField, backbone: BackboneExtractor, given: Supervision) -> Baseline:
    """Return the baseline: the serving vectors. ``backbone``: of the features in ``given``.

    Raises ImproperlyConfigured and ExtractorUnavailable where the serving extractor can't run.
    """
    space = live_spaces(field).serving
    now = extractor_of_space(field, space)
    if not isinstance(now, BackboneExtractor):
        now = backbone_of(now, {}, field.dimensions)  # raises, saying why
    features_key, untrained = backbone.features_key, backbone.project(given.features)
    if space.head is None:
        return Baseline(_vectors_of_rows(field, now, features_key, given, learned=False), None, now.spec.key, untrained)
    head = EmbeddingHead.objects.using(router.db_for_read(field.model)).get(pk=space.head)
    settings = _settings(head, given)
    # A fine-tuned backbone knows the pictures, whatever its head; with the new head on it too, the comparison is fair.
    tuned_apart = bool(head.backbone) and now.features_key != features_key
    flattered = head.name if settings is None or tuned_apart else ""
    rows = _vectors_of_rows(field, now, features_key, given, learned=settings is not None)
    return Baseline(rows, settings, now.spec.key, untrained, flattered)


def _settings(head: EmbeddingHead, given: Supervision) -> HeadSettings | None:
    """Return the head's settings if they were stored; labels that it didn't have weigh 0."""
    stored = head.summary.get("settings")
    if stored is None:
        return None
    had = {PRODUCT, *head.summary.get("labels", ()), *stored["weights"]}
    weights = {name: float(stored["weights"].get(name, 1.0)) if name in had else 0.0 for name in given.labels}
    return HeadSettings(stored["dimensions"], stored["shrinkage"], stored["residual"], weights)


def _vectors_of_rows(
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
    views = (
        view_features(field, now, given.catalogue, viewed.tolist(), int(given.view.max()) + 1) if len(viewed) else []
    )
    for number, one in enumerate(views):
        this = given.view == number
        rows[this] = made(one.rows[np.searchsorted(viewed, given.pictures[this])])
    return rows


STRANGER_PICTURES = 120
"""Drawn pictures without a product, for which confidence is to be low."""


def train(
    given: Supervision,
    base: Backbone,
    before: Baseline,
    plan: TrainingPlan,
    progress: Callable[[str], None],
    inner: Sequence[Fold] | None = None,
) -> TrainedHead:
    """Learn a head from ``given``. ``inner`` and errors: see ``learning.train.train_head``."""
    return train_head(
        given.features.astype(np.float32),
        given.labels,
        plan,
        before=before.rows,
        learned_before=before.settings,
        untrained=before.untrained,
        scenes=given.scenes,
        plain=given.plain,
        strangers=stranger_features(base.extractor).astype(np.float32),
        inner=inner,
        progress=progress,
    )


def plan_for(given: Supervision, *, seed: int, dimensions: int) -> TrainingPlan:
    """Plan for pictures with the same value of a named label to find each other.

    And for those of one product, where it has several.
    """
    named = [name for name in given.labels if name not in (PRODUCT, LIKED)]
    aims = [*named, PRODUCT] if given.several else named
    kind = named[0] if named else None
    return TrainingPlan(dimensions, PRODUCT, aims=aims, kind=kind, category=kind, seed=seed)


_of_strangers: dict[str, NDArray[np.float16]] = {}
"""By the key of the features, which extractors of other widths share."""


def stranger_features(extractor: BackboneExtractor) -> NDArray[np.float16]:
    """Return features of drawn pictures, prepared as a customer's photo is, ``(STRANGER_PICTURES, width)``."""
    key = extractor.features_key
    if key not in _of_strangers:
        _of_strangers[key] = _features_of_strangers(extractor)
    return _of_strangers[key]


def _features_of_strangers(extractor: BackboneExtractor) -> NDArray[np.float16]:
    spec, pictures = extractor.spec, []
    for picture in draw_strangers(STRANGER_PICTURES):
        file = BytesIO()
        picture.save(file, "JPEG", quality=90)
        pictures.append(np.asarray(images.load(file.getvalue(), options=spec.images, size=spec.input_size)))
    return extractor.kept_features(np.stack(pictures))


def keep_head(
    field: EmbeddingField,
    trained: TrainedHead,
    extractor: BackboneExtractor,
    *,
    alias: str,
    baseline_key: str,
    metrics: list[dict[str, Any]],
    summary: dict[str, Any],
    name: str | None = None,
    **backbone: Any,
) -> tuple[EmbeddingHead, bool]:
    """Store a trained head as a candidate. Return its row, or the row of an equal head, and whether it is new.

    ``extractor``: the backbone, without a head. ``alias``: its name in the settings. ``metrics``: by ``metrics_json``.
    ``backbone``: further columns, of a fine-tuned one. Raises ValueError where the name is taken.
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
        "metrics": metrics,
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
        "tried": [
            {"objective": round(one.objective, 4), "shortfall": round(one.shortfall, 4), **_brief(one.settings)}
            for one in trained.tried
        ],
        "seconds": round(trained.seconds, 1),
        "notes": list(trained.notes),
    }


def _brief(settings: Any) -> dict[str, Any]:
    return {"shrinkage": settings.shrinkage, "residual": settings.residual, "weights": dict(settings.weights)}


def metrics_json(trained: TrainedHead, several: bool) -> list[dict[str, Any]]:
    """Return the figures on held-out pictures, by question, for a JSONField. ``several``: see ``Supervision``."""
    return [
        {
            "task": task_name(outcome.question),
            "about": described_question(outcome.question, several),
            "aim": outcome.question.aim,
            "held_out": len(outcome.split.held_out),
            "train": len(outcome.split.train),
            "leaked": outcome.split.leaked,
            "before": _measures_json(outcome.before.as_dict()),
            "untrained": _measures_json(outcome.untrained.as_dict()),
            "after": _measures_json(outcome.after.as_dict()),
            "gain": _measures_json(asdict(outcome.gain)),
            "learned": _measures_json(asdict(outcome.learned)),
        }
        for outcome in trained.outcomes
    ]


def task_name(question: Question) -> str:
    """Return the short name of a question's task, such as "same category of unseen products"."""
    return f"same {question.label} of {UNSEEN_PRODUCTS}" if question.split.task == SAME_LABEL else question.split.task


def described_question(question: Question, several: bool) -> str:
    """Return a question's subject in words, which ``about_in_words`` translates."""
    if question.split.task == SAME_LABEL:
        return FINDS_SAME % {"label": question.label}
    return FINDS_IT[question.split.task == UNSEEN_PRODUCTS, several]


FINDS_SAME = _("a picture of an unseen product finds the same %(label)s")
FINDS_IT = {
    (True, True): _("another picture of an unseen product finds it"),
    (True, False): _("an altered view of an unseen product finds it"),
    (False, True): _("another picture of a product learned from finds it"),
    (False, False): _("an altered view of a product learned from finds it"),
}
"""By whether the product is unseen, and whether products have several pictures."""


def about_in_words(measured: dict[str, Any]) -> str:
    """Return the subject of a head's figures in the current language; of old heads, as it was stored."""
    about = str(measured.get("about", measured["task"]))
    same = FINDS_SAME % {"label": ""}
    if about.startswith(same):
        return gettext(FINDS_SAME) % {"label": about.removeprefix(same)}
    return gettext(about)


def figures_table(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Return aligned lines for people: each row's subject, and R@1 / mAP untrained, serving and learned."""
    rows = []
    served = any(one["before"] != one["untrained"] for one in metrics)
    for one in metrics:
        whens = ["untrained", "before", "after"] if served else ["untrained", "after"]
        figures = [f"{one[when]['R@1']:.3f} / {one[when]['mAP']:.3f}" for when in whens]
        rows.append([one["about"], str(one["after"]["queries"]), *figures])
    header = ["held-out pictures, R@1 / mAP", "queries", "untrained", *(["now"] if served else []), "learned"]
    lines = aligned(header, rows)
    for one in metrics:
        leaked = (
            "near-duplicates not looked for"
            if one["leaked"] is None
            else f"{one['leaked']} of them have a near-duplicate there"
        )
        lines.append(f"  {one['task']}: {one['held_out']} held out, {one['train']} learned from; {leaked}")
    return lines


def _measures_json(measures: dict[str, float]) -> dict[str, float | None]:
    """Round measures for JSON, which has no NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in measures.items()}
