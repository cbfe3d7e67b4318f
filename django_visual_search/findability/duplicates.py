"""Pictures of two products that are the same: as near as a picture is to a smaller, compressed copy of itself."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from ..evaluation.gallery import Gallery
from ..evaluation.photos import as_photo, pictures, prepared, saved
from ..evaluation.space import unit
from ..extractors import Extractor
from ..fields import EmbeddingField
from ..models import FindabilityFinding
from ..search.nearest import Query, nearest
from .findings import finding

COPIES = 60
"""Pictures that are copied to measure with."""
FEWEST = 5
"""Copies below which a quantile says nothing."""

SCALE, QUALITY = 0.9, 85
"""Of a copy: a little smaller and saved again, as programs do that put pictures online."""

QUANTILE = 0.05
"""Of copies that may be taken for other pictures. What that leaves apart was measured; see ``threshold``."""

OTHERWISE = 0.995
"""Where there are too few pictures to measure with."""


def threshold(field: EmbeddingField, extractor: Extractor, gallery: Gallery, rows: list[int], seed: int = 0) -> float:
    """The cosine that all but QUANTILE of small, compressed copies have to their pictures, in this vector space.

    Measured anew for each space, because how near look-alikes are differs. What it leaves apart, by 300 copies (their
    5 % quantile) and the nearest pictures of other products (the nearest pair of all), 1,200 grocery photos and the 336
    products of the example shop: classic .9996 and .9824, .9992 and .9919; MobileNetV2 .9935 and .9306, .9978 and
    .9900; MobileNetV2 with a head learned from the grocery's products .9905 and .9091. Copies of half the size can't be
    told from look-alikes like that (MobileNetV2: .8797 and .9306).
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:COPIES]
    some = [rows[i] for i in sorted(drawn)]
    cosines = []
    for place, picture in pictures(field, [gallery.catalogue.images[row] for row in some], extractor.spec):
        small = (max(1, round(picture.width * SCALE)), max(1, round(picture.height * SCALE)))
        copy = _copy(picture.resize(small, Image.Resampling.LANCZOS))
        vector = unit(extractor(prepared(as_photo(copy, extractor.spec), extractor.spec)[None]))[0]
        cosines.append(float(vector @ gallery.vectors[some[place]]))
    return float(np.quantile(cosines, QUANTILE)) if len(cosines) >= FEWEST else OTHERWISE


def _copy(picture: Image.Image) -> Image.Image:
    with Image.open(BytesIO(saved(picture, "JPEG", QUALITY))) as copy:
        return copy.convert("RGB")


def duplicate(field: EmbeddingField, gallery: Gallery, row: int, same: float) -> FindabilityFinding | None:
    """A finding where the nearest picture of another product is the same as this one."""
    product = field.product_model._meta.pk.to_python(gallery.catalogue.products[row])
    everything = field.product_model._base_manager.all()
    query = Query(gallery.vectors[row], gallery.space)
    near = nearest(field, query, limit=1, within=everything, exclude=product).candidates
    if not near or (cosine := cosine_of(field, near[0].distance)) < same:
        return None
    reason = FindabilityFinding.Reason.DUPLICATE
    found = finding(field, gallery, row, reason, str(near[0].product_pk))
    found.similarity = cosine
    return found


def cosine_of(field: EmbeddingField, distance: float) -> float:
    """Of two unit vectors with that distance by the field's metric."""
    if field.metric == "l2":
        return 1 - distance**2 / 2
    return 1 - distance if field.metric == "cosine" else -distance
