"""Learns a head from what the shop has, and measures it against what serves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from django.db import router
from numpy.typing import NDArray

from .. import images
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..learning import strangers
from ..learning.heads import Trained, train_head
from ..learning.labels import grouping
from ..learning.plan import Plan
from ..learning.splits import Split
from ..models import EmbeddingHead
from ..spaces.extractors import get_extractor
from ..spaces.heads import backbone_of
from ..spaces.serving import serving
from .baseline import Baseline
from .supervision import LIKED, PRODUCT, Supervision

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
    for picture in strangers.drawn(STRANGERS):
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
