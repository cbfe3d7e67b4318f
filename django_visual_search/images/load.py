"""From bytes to a clean, square RGB picture: entry function ``load``, for pictures of the catalogue and for queries.

``load_whole`` and ``crop_square`` do the same in two steps, where several parts of one photo are needed.

Bytes are sniffed and measured before a decoder sees them, decoded no larger than needed, turned upright, cropped,
trimmed, denoised, scaled, converted to sRGB and made square.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, ImageChops, ImageFilter

from .decode import Source
from .options import BROKEN_PICTURE, EMPTY_FILE, Box, ImageOptions, ImageRefused, check_crop, gettext_noop

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

VERSION = 1
"""Increased when the same bytes and options give other pixels; part of every extractor's key."""

Photo = bytes | memoryview | BinaryIO
Area = tuple[float, float, float, float]

OVERSAMPLE = 2  # decode at two to four times the final size, then filter down: draft() and box averages alone alias
MIN_CONTENT = 0.05  # share of a side that a trim must leave; less is dust on an empty picture


def load(
    source: Photo,
    *,
    options: ImageOptions = ImageOptions(),  # noqa: B008 (frozen)
    crop: Box | None = None,
    area: Area | None = None,
    size: int,
) -> Image.Image:
    """Return a clean RGB picture of exactly ``size`` x ``size`` pixels.

    ``source``: as for ``read_picture``. ``crop`` is ``(x0, y0, x1, y1)``, fractions from 0 to 1 of the picture as
    shown, after its EXIF orientation. ``area`` is a crop as (left, top, width, height) in percent, which may lie
    outside: an area that lies outside, or almost, stands for the whole picture.

    Raises only ImageRefused, whatever the bytes or the crop. Errors of the file's own ``read`` pass through: a storage
    that fails is not a bad picture. A ``size`` below 1 is a ValueError.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size!r}.")
    region = (0.0, 0.0, 1.0, 1.0) if crop is None else check_crop(crop)
    data = read_picture(source, options.max_bytes)
    with _refused():
        return _prepare(bytes(data), options, region, size, area)


def load_whole(source: Photo, *, options: ImageOptions = ImageOptions(), size: int) -> Image.Image:  # noqa: B008
    """Return a clean RGB picture, upright, in its own proportions, neither trimmed nor denoised.

    Its longest side has at least ``size`` pixels and less than twice that, or the file's own. ``crop_square`` makes of
    parts of it what ``load`` makes of parts of the file. Raises as ``load``.
    """
    data = read_picture(source, options.max_bytes)
    with _refused():
        found = Source(bytes(data), options)
        picture, _ = found.render((0.0, 0.0, 1.0, 1.0), size, shortest=False)
        return _to_srgb(picture, found.profile)


def crop_square(picture: Image.Image, *, options: ImageOptions, crop: Box, size: int) -> Image.Image:
    """Return a part of a ``load_whole`` picture, prepared as ``load`` would: RGB, ``size`` x ``size`` pixels."""
    x0, y0, x1, y1 = crop
    left, top = min(int(x0 * picture.width), picture.width - 1), min(int(y0 * picture.height), picture.height - 1)
    right, bottom = max(left + 1, math.ceil(x1 * picture.width)), max(top + 1, math.ceil(y1 * picture.height))
    part = picture.crop((left, top, right, bottom))
    box = _content(part, options.trim_tolerance, options.trim_margin) if options.trim else None
    if box is not None:
        part = part.crop(box)
    if options.denoise is not None:
        part = part.filter(ImageFilter.MedianFilter(options.denoise))
    return _squared(_scale(part, size, options.fit), options, size)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Turn any error of decoding into an ImageRefused."""
    try:
        yield
    except ImageRefused:
        raise
    except MemoryError:
        raise ImageRefused(
            "memory", gettext_noop("There was not enough memory for the picture. Scale it down and try again.")
        ) from None
    except Exception as error:  # Pillow and its plugins raise a dozen kinds, struct.error and zlib.error among them
        raise ImageRefused("corrupt", BROKEN_PICTURE) from error


def read_picture(source: Photo, max_bytes: int) -> memoryview:
    """Return a picture's bytes, hidden from error reports. Raises ImageRefused for none or too many.

    ``source``: bytes, or a binary file, read from its position, ``max_bytes + 1`` bytes of it at most.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = memoryview(source)
    else:
        file = BytesIO()
        while (left := max_bytes + 1 - file.tell()) > 0 and file.write(source.read(left)):
            pass  # a raw stream may return less than requested
        # Not getbuffer(): from Python 3.13 on, collecting a file whose buffer is in use ends in a line in the log.
        data = memoryview(file.getvalue())
    if not data:
        raise ImageRefused("empty", EMPTY_FILE)
    if len(data) > max_bytes:
        raise ImageRefused(
            "too_large",
            gettext_noop("The file is larger than %(most).3g MB. Save the picture smaller or at a lower quality."),
            {"most": max_bytes / 2**20},
        )
    return data


def _prepare(data: bytes, options: ImageOptions, region: Box, size: int, area: Area | None) -> Image.Image:
    source = Source(data, options)
    width, height = source.shown
    if area is not None:
        region = _region(area, width, height, options.min_side)
    if min((region[2] - region[0]) * width, (region[3] - region[1]) * height) < options.min_side:
        raise ImageRefused(
            "crop",
            gettext_noop("The crop box is too small: at least %(least)d pixels on each side are needed."),
            {"least": options.min_side},
        )
    shortest = options.fit != "pad"
    picture, finer = source.render(region, OVERSAMPLE * size, shortest=shortest)
    box = _content(picture, options.trim_tolerance, options.trim_margin) if options.trim else None
    if box is not None:
        picture, whole = picture.crop(box), picture.size
        if finer and (min if shortest else max)(picture.size) < size:
            # The borders took so much that the rest would be scaled up, and the file has more pixels.
            region = _box_within(region, box, whole)
            picture, _ = source.render(region, OVERSAMPLE * size, shortest=shortest)
    if options.denoise is not None:
        picture = picture.filter(ImageFilter.MedianFilter(options.denoise))
    picture = _scale(picture, size, options.fit)
    return _squared(_to_srgb(picture, source.profile), options, size)


def _region(area: Area, width: int, height: int, least: int) -> Box:
    """Return the area within a picture of that size, as fractions; all of it if a side has less than ``least``."""
    left, top = area[0] / 100, area[1] / 100
    right, bottom = min(left + area[2] / 100, 1.0), min(top + area[3] / 100, 1.0)
    if min((right - left) * width, (bottom - top) * height) < least:
        return 0.0, 0.0, 1.0, 1.0
    return left, top, right, bottom


def _squared(picture: Image.Image, options: ImageOptions, size: int) -> Image.Image:
    if picture.size == (size, size):
        return picture
    square = Image.new("RGB", (size, size), options.background)
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square


def _content(picture: Image.Image, tolerance: int, margin: float) -> tuple[int, int, int, int] | None:
    """Return the box inside a border of one colour, plus a margin; None without such a border, or without content."""
    right, bottom = picture.width - 1, picture.height - 1
    corners = [picture.crop((x, y, x + 1, y + 1)).tobytes() for x in (0, right) for y in (0, bottom)]
    channels = [sorted(values) for values in zip(*corners, strict=True)]
    if any(values[-1] - values[0] > tolerance for values in channels):
        return None
    colour = tuple((values[1] + values[2]) // 2 for values in channels)
    difference = ImageChops.difference(picture, Image.new(picture.mode, picture.size, colour))
    largest, *others = difference.split()
    for band in others:
        largest = ImageChops.lighter(largest, band)
    box = largest.point([0] * (tolerance + 1) + [255] * (255 - tolerance)).getbbox()
    if box is None:
        return None
    wide, high = box[2] - box[0], box[3] - box[1]
    if max(wide / picture.width, high / picture.height) < MIN_CONTENT:
        return None
    more = round(margin * max(wide, high))
    box = max(0, box[0] - more), max(0, box[1] - more), min(right + 1, box[2] + more), min(bottom + 1, box[3] + more)
    return box if box != (0, 0, *picture.size) else None


def _box_within(region: Box, box: tuple[int, int, int, int], size: tuple[int, int]) -> Box:
    """Convert a pixel box of a rendering of ``region`` with this ``size`` to fractions of the whole picture."""
    wide, high = (region[2] - region[0]) / size[0], (region[3] - region[1]) / size[1]
    return (
        region[0] + box[0] * wide,
        region[1] + box[1] * high,
        min(1.0, region[0] + box[2] * wide),
        min(1.0, region[1] + box[3] * high),
    )


def _scale(picture: Image.Image, size: int, fit: str) -> Image.Image:
    """Fill the square (stretch, center-crop), or reach its border with the longest side (pad)."""
    width, height = picture.size
    to, box = (size, size), (0.0, 0.0, float(width), float(height))
    if fit == "pad":
        longest = max(width, height)
        to = max(1, round(width * size / longest)), max(1, round(height * size / longest))
    elif fit == "center-crop":
        left, top = (width - min(width, height)) / 2, (height - min(width, height)) / 2
        box = (left, top, width - left, height - top)
    # Scaling down, Hamming is about as sharp as bicubic at half the cost, which is most of the time after decoding.
    smaller = box[2] - box[0] >= to[0] and box[3] - box[1] >= to[1]
    return picture.resize(to, Image.Resampling.HAMMING if smaller else Image.Resampling.BICUBIC, box=box)


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _transform(profile, picture.mode) if profile else None
    if transform is None:
        return picture.convert("RGB")
    return transform.apply(picture)


# Building a transform takes longer than applying it, and a shop's camera always writes the same profile.
@lru_cache(maxsize=4)
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Build the transform to sRGB, relative colorimetric; None if the profile is broken or for another mode."""
    from PIL import ImageCms  # loads LittleCMS, which most pictures never need

    try:
        source: Any = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        return ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
