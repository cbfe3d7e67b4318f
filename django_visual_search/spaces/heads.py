"""From a space to the extractor, with its learned head, that makes the space's vectors.

Entry functions: ``serving_extractor`` and ``extractor_of_space``. Heads are rows of ``models.EmbeddingHead``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from ..db.statements import cache_key
from ..extractors import Extractor, ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..extractors.heads import LinearHead
from ..extractors.tuned import TunedExtractor
from ..fields import EmbeddingField
from ..fields.keys import embedding_key
from ..learning.calibration import Calibration
from ..learning.serialise import head_from
from ..models import EmbeddingHead
from .extractors import DatabaseStore, get_extractor
from .live import Space, live_spaces


@dataclass(frozen=True)
class StoredHead:
    """A row of ``models.EmbeddingHead`` as a process uses it; its numbers never change."""

    name: str
    key: str
    features_key: str
    head: LinearHead
    backbone: dict[str, Any]
    """Options of a TunedExtractor; empty where the head takes the features of the settings' extractor."""
    calibration: Calibration | None = None
    category: str = ""
    """The path from the product to the label that the calibration distinguishes."""

    @property
    def tells_categories(self) -> bool:
        """Return whether any category has a curve of its own."""
        return self.calibration is not None and bool(self.calibration.categories)


def serving_extractor(field: EmbeddingField) -> Extractor:
    """Return the extractor of the field's serving space. Raises as ``extractor_of_space``."""
    return extractor_of_space(field, live_spaces(field).serving)


def key_of_space(field: EmbeddingField, space: Space) -> str:
    """Return the extractor key of a space's vectors; no head is read. Raises as ``get_extractor``."""
    return space.key or get_extractor(space.extractor, field.dimensions).spec.key


def serving_extractor_key(field: EmbeddingField, *, at_any_age: bool = False) -> str:
    """Return the extractor key that this field's vectors should have now; ``at_any_age``: see ``live_spaces``."""
    return key_of_space(field, live_spaces(field, at_any_age=at_any_age).serving)


def serving_embedding_key(field: EmbeddingField, image_name: str, *, at_any_age: bool = False) -> str:
    """Return the key that the vector of this picture should have now; ``at_any_age``: see ``live_spaces``."""
    return embedding_key(serving_extractor_key(field, at_any_age=at_any_age), image_name)


def extractor_of_space(field: EmbeddingField, space: Space, using: str | None = None) -> Extractor:
    """Return the extractor that makes a space's vectors for this field.

    Raises ImproperlyConfigured as ``get_extractor``, and ExtractorUnavailable where a learned head no longer fits the
    settings.
    """
    base = get_extractor(space.extractor, field.dimensions)
    if space.head is None:
        return base
    return _with_head(
        base, stored_head(using or router.db_for_read(field.model), space.head, space.key), field.dimensions
    )


def backbone_of(base: Extractor, backbone: dict[str, Any], dimensions: int | None) -> BackboneExtractor:
    """Return the extractor, without a head, whose features a head takes: ``base``, or one fine-tuned from it.

    ``backbone``: options of a TunedExtractor, or nothing. Raises ImproperlyConfigured for an extractor of the shop's
    own that has no features to learn from.
    """
    if not isinstance(base, BackboneExtractor):
        raise ImproperlyConfigured(
            f"{type(base).__name__} makes vectors in one step, so no head can be learned for it: make it a subclass of "
            "django_visual_search.extractors.backbone.BackboneExtractor."
        )
    if not backbone:
        return base
    tuned = TunedExtractor(**backbone, dimensions=dimensions, artifacts=DatabaseStore())
    # Pictures are prepared for it as they were for what it was tuned from.
    tuned.image_options = base.image_options
    return tuned


def stored_head(using: str, pk: int, key: str = "") -> StoredHead:
    """Return a head from the database, read once. Raises ExtractorUnavailable where it is damaged or gone.

    ``key``: the head's extractor key, which tells it from an earlier one whose number it has (``RESTART IDENTITY``).
    """
    return _stored_head(cache_key(connections[using]), using, pk, key)


@functools.lru_cache(maxsize=32)
def _stored_head(database: tuple[str, str, str], using: str, pk: int, key: str) -> StoredHead:
    # Remembered in any transaction: the numbers of a key never change.
    row = EmbeddingHead.objects.using(using).filter(pk=pk).first()
    if row is None:
        raise ExtractorUnavailable(f"The head {pk} is not in the database any more.")
    try:
        head = head_from(bytes(row.data), row.sha256)
        calibration = None if row.calibration is None else Calibration.from_json(row.calibration)
    except ValueError as e:
        raise ExtractorUnavailable(f"The head {row.name} can't be used: {e}") from e
    category = str(next(iter(row.summary.get("labels", ())), ""))
    return StoredHead(row.name, row.key, row.features_key, head, row.backbone, calibration, category)


def _with_head(base: Extractor, stored: StoredHead, dimensions: int | None) -> Extractor:
    known = base.__dict__.setdefault("_heads", {})
    made: Extractor | None = known.get((stored.key, dimensions))
    if made is None:
        backbone = backbone_of(base, stored.backbone, dimensions)
        if backbone.features_key != stored.features_key:
            raise ExtractorUnavailable(
                f"The head {stored.name} was learned for the features {stored.features_key}, but VISUAL_SEARCH"
                f"['EXTRACTORS'] gives {backbone.features_key}: put the extractor's options back, or switch to another "
                "head or extractor (`manage.py switch_embedding`)."
            )
        made = known[stored.key, dimensions] = backbone.with_head(stored.head)
    return made


def forget_heads() -> None:
    """Read heads from the database again."""
    _stored_head.cache_clear()
