"""What a new head is measured against: the vectors that serve now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import router
from numpy.typing import NDArray

from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..learning.lda import Settings
from ..models import EmbeddingHead
from ..spaces.heads import backbone_of, extractor_of_space
from ..spaces.serving import serving
from .features import catalogue_features, view_features
from .supervision import PRODUCT, VIEWS, Supervision


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
