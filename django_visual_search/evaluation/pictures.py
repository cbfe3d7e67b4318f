"""A field's pictures decoded as indexing decodes them: in processes of their own, ahead of their use.

Photos to search by, made from the shop's own pictures: as bytes, the way a shopper's photo comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from io import BytesIO

import numpy as np
from django.core.exceptions import SuspiciousOperation
from numpy.typing import NDArray
from PIL import Image

from .. import images
from ..conf import conf
from ..extractors import ExtractorSpec
from ..fields import EmbeddingField
from ..images import ImageRefused
from ..indexing.decoding.decoder import Decoded, DecoderLost
from ..indexing.decoding.pool import get_pool

AHEAD = 2
"""Batches that are decoded while another is used."""

Pixels = NDArray[np.uint8]


@dataclass
class Batch:
    """Some of the pictures: their places among those asked for, and uint8 ``(n, s, s, 3)``."""

    places: list[int]
    pixels: Pixels


@dataclass
class Unreadable:
    """Pictures that could not be had, by place: why."""

    reasons: dict[int, str] = dataclass_field(default_factory=dict)


def decoded(
    field: EmbeddingField, images: Sequence[str], spec: ExtractorSpec, unreadable: Unreadable | None = None
) -> Iterator[Batch]:
    """Batches of the pictures of those names, in their order; what can't be had is left out and told ``unreadable``.

    Raises ExtractorUnavailable where no decoding process can run.
    """
    told = Unreadable() if unreadable is None else unreadable
    storage, pool, size = field.image_field.storage, get_pool(), spec.input_size
    waiting: deque[tuple[int, list[Future[list[Decoded]]]]] = deque()
    try:
        for start in range(0, len(images), conf.BATCH_SIZE):
            waiting.append((start, pool.submit(storage, images[start : start + conf.BATCH_SIZE], spec)))
            if len(waiting) > AHEAD:
                yield _ready(*waiting.popleft(), size, told)
        while waiting:
            yield _ready(*waiting.popleft(), size, told)
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _ready(start: int, futures: list[Future[list[Decoded]]], size: int, told: Unreadable) -> Batch:
    places, pixels = [], []
    for place, one in enumerate((one for future in futures for one in future.result()), start):
        if isinstance(one, FileNotFoundError):
            told.reasons[place] = "The storage has no such file."
        # OSError: the storage failed; measuring goes on with the others.
        elif isinstance(one, ImageRefused | DecoderLost | SuspiciousOperation | OSError):
            told.reasons[place] = str(one)
        elif isinstance(one, Exception):
            raise one
        else:
            places.append(place)
            pixels.append(one)
    return Batch(places, np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8))


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
