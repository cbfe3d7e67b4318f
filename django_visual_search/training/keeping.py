"""Learned heads go into the database, as rows that every process can read."""

from __future__ import annotations

import math
from typing import Any

from django.db import IntegrityError, router, transaction

from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..learning.heads import Trained
from ..learning.serialise import digest, head_bytes
from ..models import EmbeddingHead


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
