"""Decode a field's pictures as indexing does, in processes of their own, and make photos to search by from them.

Entry functions: ``decoded_batches``; ``large_pictures`` to alter, ``as_photo`` to encode them as a shopper's photo, and
``thumbnails`` for reports. ``Unreadable`` collects why pictures couldn't be read.
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
from ..decoding.decoder import Decoded, DecoderLost
from ..decoding.pool import get_pool
from ..extractors import ExtractorSpec
from ..fields import EmbeddingField
from ..fields.keys import split_area
from ..images import ImageRefused

BATCHES_AHEAD = 2
"""Batches decoded while another is used."""

Pixels = NDArray[np.uint8]


@dataclass
class DecodedBatch:
    """Some of the requested pictures: their places in the request, and uint8 ``(n, s, s, 3)``."""

    places: list[int]
    pixels: Pixels


@dataclass
class Unreadable:
    """Reasons why pictures couldn't be read, by place."""

    reasons: dict[int, str] = dataclass_field(default_factory=dict)


def decoded_batches(
    field: EmbeddingField, images: Sequence[str], spec: ExtractorSpec, unreadable: Unreadable | None = None
) -> Iterator[DecodedBatch]:
    """Yield batches of the pictures with these names, in order. ``unreadable`` receives the others' reasons.

    Raises ExtractorUnavailable where no decoder process can run.
    """
    unreadable = Unreadable() if unreadable is None else unreadable
    storage, pool, size = field.image_field.storage, get_pool(), spec.input_size
    waiting: deque[tuple[int, list[Future[list[Decoded]]]]] = deque()
    try:
        for start in range(0, len(images), conf.BATCH_SIZE):
            parts = [split_area(field, image) for image in images[start : start + conf.BATCH_SIZE]]
            names, areas = zip(*parts, strict=True)
            waiting.append((start, pool.submit(storage, names, spec, areas)))
            if len(waiting) > BATCHES_AHEAD:
                yield _ready(*waiting.popleft(), size, unreadable)
        while waiting:
            yield _ready(*waiting.popleft(), size, unreadable)
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _ready(start: int, futures: list[Future[list[Decoded]]], size: int, unreadable: Unreadable) -> DecodedBatch:
    places, pixels = [], []
    for place, one in enumerate((one for future in futures for one in future.result()), start):
        if isinstance(one, FileNotFoundError):
            unreadable.reasons[place] = "The storage has no such file."
        # OSError: the storage failed; the other pictures are still measured.
        elif isinstance(one, ImageRefused | DecoderLost | SuspiciousOperation | OSError):
            unreadable.reasons[place] = str(one)
        elif isinstance(one, Exception):
            raise one
        else:
            places.append(place)
            pixels.append(one)
    return DecodedBatch(places, np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8))


PHOTO_SIDE = 384
"""Pixels of a photo's side, or more where the extractor takes larger ones."""
PHOTO_QUALITY = 95
PHOTO_FORMATS = ("JPEG", "PNG", "WebP", "GIF", "AVIF")
"""Formats of photos; the first that the shop accepts is used."""


def large_pictures(
    field: EmbeddingField, names: Sequence[str], spec: ExtractorSpec, unreadable: Unreadable | None = None
) -> Iterator[tuple[int, Image.Image]]:
    """Yield the readable pictures with these names and their places, large enough to alter."""
    large = replace(spec, input_size=max(PHOTO_SIDE, spec.input_size, spec.images.min_side))
    for batch in decoded_batches(field, names, large, unreadable):
        for place, pixels in zip(batch.places, batch.pixels, strict=True):
            yield place, Image.fromarray(pixels)


def thumbnails(field: EmbeddingField, names: Sequence[str], spec: ExtractorSpec, side: int) -> dict[str, Image.Image]:
    """Return small square pictures by name, padded and not cropped; unreadable ones are left out."""
    plain = replace(spec, input_size=side, images=replace(spec.images, trim=False, fit="pad"))
    distinct = list(dict.fromkeys(names))
    return {
        distinct[place]: Image.fromarray(pixels)
        for batch in decoded_batches(field, distinct, plain)
        for place, pixels in zip(batch.places, batch.pixels, strict=True)
    }


def as_photo(picture: Image.Image, spec: ExtractorSpec) -> bytes:
    """Encode as a file of the first format that the extractor accepts."""
    accepted = (name for name in PHOTO_FORMATS if name in spec.images.formats)
    return encoded(picture, next(accepted, PHOTO_FORMATS[0]), PHOTO_QUALITY)


def encoded(picture: Image.Image, kind: str, quality: int) -> bytes:
    """Encode as a file of one of Pillow's formats."""
    file = BytesIO()
    picture.save(file, kind, quality=quality)
    return file.getvalue()


def prepare_photo(photo: bytes, spec: ExtractorSpec) -> NDArray[np.uint8]:
    """Prepare a photo as a search does: uint8 ``(s, s, 3)``. Raises ImageRefused."""
    return np.asarray(images.load(photo, options=spec.images, size=spec.input_size))
