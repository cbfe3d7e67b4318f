"""Lets kept features go that no head will ask for."""

from __future__ import annotations

import time
from dataclasses import asdict

from django.core.exceptions import ImproperlyConfigured
from django.db import router

from ..extractors import ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..extractors.classic import ClassicExtractor
from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace
from ..spaces import features
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space
from ..spaces.serving import Space

EVERY_SECONDS = 3600.0
VIEWS = 10
"""Altered views of a picture whose features are kept, at most; their key is the backbone's with a number."""

_pruned: dict[str, float] = {}


def prune(field: EmbeddingField) -> int:
    """Once in EVERY_SECONDS and process. Returns how many went.

    Kept are those of the settings' extractor, of what serves and served before, and of every head that was not retired.
    """
    if time.monotonic() - _pruned.get(field.label, -EVERY_SECONDS) < EVERY_SECONDS:
        return 0
    _pruned[field.label] = time.monotonic()
    keys = set(_of_heads(field)) | set(_of_extractors(field))
    return features.prune(field, [*keys, *(f"{key}+{number}" for key in keys for number in range(VIEWS))])


def _of_heads(field: EmbeddingField) -> list[str]:
    using = router.db_for_write(field.model)
    heads = EmbeddingHead.objects.using(using).filter(label=field.label)
    spaces = ServingSpace.objects.using(using).filter(label=field.label)
    serving = spaces.values_list("head__features_key", "previous_head__features_key")
    wanted = heads.exclude(state=EmbeddingHead.State.RETIRED).values_list("features_key", flat=True)
    return [*wanted, *(key for row in serving for key in row if key)]


def _of_extractors(field: EmbeddingField) -> list[str]:
    spaces = ServingSpace.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    aliases = {alias for row in spaces.values_list("extractor", "previous_extractor") for alias in row}
    extractors = [extractor_of(field)]
    for alias in aliases:
        try:
            extractors.append(extractor_of_space(field, Space(alias)))
        except (ImproperlyConfigured, ExtractorUnavailable):  # no longer in the settings
            continue
    backbones = [extractor for extractor in extractors if isinstance(extractor, BackboneExtractor)]
    # Training tells scenes apart by these.
    beside = [ClassicExtractor(images=asdict(backbone.image_options)) for backbone in backbones]
    return [backbone.features_key for backbone in (*backbones, *beside)]
