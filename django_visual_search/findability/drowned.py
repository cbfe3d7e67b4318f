"""Products that look-alikes hide: their own photo, altered a little, doesn't find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ..evaluation.gallery import Gallery
from ..evaluation.photos import as_photo, pictures, prepared
from ..evaluation.pictures import Unreadable
from ..evaluation.space import unit
from ..extractors import Extractor, ExtractorSpec
from ..fields import EmbeddingField
from ..learning.augment import altered
from ..models import FindabilityFinding
from ..search.nearest import Query, nearest
from .findings import finding

TOP = 5
"""Hits among which a photo has to find its product."""

ALTERATIONS = {"crop": 0.3, "light": 0.2, "rotation": 0.1}
"""Of each photo: up to an eighth of each side cut off, a fifth more or less light, turned by up to 9 degrees."""

PHOTOS = 3
FAILED = 2
"""So many of these photos must miss their product for it to count as drowned: one may be an unlucky one."""


def drowned(
    field: EmbeddingField,
    extractor: Extractor,
    gallery: Gallery,
    rows: list[int],
    unreadable: Unreadable,
) -> Iterator[tuple[int, FindabilityFinding | None]]:
    """Each of the rows in turn, with a finding where too many altered photos of it miss its product."""
    names = [gallery.catalogue.images[row] for row in rows]
    everything = field.product_model._base_manager.all()
    next_place = 0
    for place, picture in pictures(field, names, extractor.spec, unreadable):
        for missed in rows[next_place:place]:
            yield missed, None
        next_place = place + 1
        row = rows[place]
        product = gallery.catalogue.products[row]
        photos = np.stack([prepared(photo, extractor.spec) for photo in _photos(picture, extractor.spec, place)])
        others: Counter[str] = Counter()
        failed = 0
        for vector in unit(extractor(photos)):
            near = nearest(field, Query(vector, gallery.space), limit=TOP, within=everything).candidates
            keys = [str(candidate.product_pk) for candidate in near]
            if product not in keys:
                failed += 1
                others.update(keys[:1])
        found = None
        if failed >= FAILED:
            reason = FindabilityFinding.Reason.DROWNED
            found = finding(field, gallery, row, reason, others.most_common(1)[0][0] if others else "")
            found.failed, found.photos = failed, len(photos)
        yield row, found
    for missed in rows[next_place:]:
        yield missed, None


def _photos(picture: Image.Image, spec: ExtractorSpec, seed: int) -> Iterator[bytes]:
    for number in range(PHOTOS):
        photo = picture
        for name, strength in ALTERATIONS.items():
            photo = altered(photo, name, strength, [seed, number])
        yield as_photo(photo, spec)
