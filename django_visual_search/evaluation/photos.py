"""Photos to search by, made from the shop's own pictures: as bytes, the way a shopper's photo comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import images
from ..extractors import ExtractorSpec
from ..fields import EmbeddingField
from .pictures import Unreadable, decoded

SIDE = 384
"""Pixels of a photo, where the extractor doesn't take larger ones."""
QUALITY = 95
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "AVIF")
"""Of photos, the first that the shop accepts."""


def pictures(
    field: EmbeddingField, names: Sequence[str], spec: ExtractorSpec, unreadable: Unreadable | None = None
) -> Iterator[tuple[int, Image.Image]]:
    """The pictures of those names that can be had, with their places, large enough to be altered."""
    large = replace(spec, input_size=max(SIDE, spec.input_size, spec.images.min_side))
    for batch in decoded(field, names, large, unreadable):
        for place, pixels in zip(batch.places, batch.pixels, strict=True):
            yield place, Image.fromarray(pixels)


def thumbnails(field: EmbeddingField, names: Sequence[str], spec: ExtractorSpec, side: int) -> dict[str, Image.Image]:
    """Small square pictures by name, as they are but for padding; those that can't be had are left out."""
    plain = replace(spec, input_size=side, images=replace(spec.images, trim=False, fit="pad"))
    distinct = list(dict.fromkeys(names))
    return {
        distinct[place]: Image.fromarray(pixels)
        for batch in decoded(field, distinct, plain)
        for place, pixels in zip(batch.places, batch.pixels, strict=True)
    }


def as_photo(picture: Image.Image, spec: ExtractorSpec) -> bytes:
    """As a file of a format that is accepted for that extractor."""
    accepted = (name for name in FORMATS if name in spec.images.formats)
    return saved(picture, next(accepted, FORMATS[0]), QUALITY)


def saved(picture: Image.Image, kind: str, quality: int) -> bytes:
    """As a file of that format."""
    file = BytesIO()
    picture.save(file, kind, quality=quality)
    return file.getvalue()


def prepared(photo: bytes, spec: ExtractorSpec) -> NDArray[np.uint8]:
    """As a search prepares it: uint8 ``(s, s, 3)``."""
    return np.asarray(images.load(photo, options=spec.images, size=spec.input_size))
