"""From bytes to the pixels of a region, at no more than the needed resolution and in little memory.

Entry point: ``Source``. ``shrink`` brings any Pillow mode to greyscale, RGB or CMYK.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from io import BytesIO
from typing import Any

from PIL import Image

from .formats import (
    BrokenError,
    exif_orientation,
    gif_size,
    jpeg_essentials,
    png_essentials,
    safe_profile,
    sniff,
    webp_size,
)
from .heif import check_heif
from .options import Box, ImageOptions, ImageRefused, check_pixels, check_size, gettext_noop

# The plugin is called directly: Image.open would let other plugins see the bytes, adopt a phone's JPEG as MPO (several
# pictures), and warn about pixels by its own global limit.
PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "HEIC": ("pi_heif", "HeifImageFile"),
}

# Peak bytes per pixel while a picture is decoded whole (PNG: by mode). Measured with Pillow 13 and pi-heif 1.4: WebP
# 16.7, AVIF 10.0 and HEIC 7.2 at 8 bits, with room for 10 bits in the latter two; GIF 1.1, plus as much again for
# frame disposal.
DECODE_COST = {"WebP": 17, "AVIF": 13, "GIF": 2, "HEIC": 8.5}
PNG_COST = {"1": 1, "L": 1, "P": 1, "I;16": 2}

# Each scan of a progressive JPEG passes over all coefficients, however few bytes it has: 0.35 ns per pixel measured for
# one that is nearly empty. Encoders write about ten.
MAX_SCAN_PIXELS = 1_000_000_000

# Exif orientation: (swap x and y, then flip x, then flip y) from the picture as shown to as stored, and the way back.
ORIENTATIONS: dict[int, tuple[bool, bool, bool, Image.Transpose | None]] = {
    1: (False, False, False, None),
    2: (False, True, False, Image.Transpose.FLIP_LEFT_RIGHT),
    3: (False, True, True, Image.Transpose.ROTATE_180),
    4: (False, False, True, Image.Transpose.FLIP_TOP_BOTTOM),
    5: (True, False, False, Image.Transpose.TRANSPOSE),
    6: (True, False, True, Image.Transpose.ROTATE_270),
    7: (True, True, True, Image.Transpose.TRANSVERSE),
    8: (True, True, False, Image.Transpose.ROTATE_90),
}


class Source:
    """A picture's bytes, checked; ``render`` returns any region of it."""

    def __init__(self, data: bytes, options: ImageOptions) -> None:
        self.data, self.options = data, options
        kind = sniff(data)
        if kind is None or kind not in options.formats:
            raise ImageRefused(
                "format",
                gettext_noop("The file is not a picture in an accepted format (%(formats)s). Save it in one of them."),
                {"formats": ", ".join(options.formats)},
            )
        self.format = kind
        self.profile: bytes | None = None
        self.exif: bytes | None = None
        self.scans = 1
        self.jpeg_cost = 0.0
        self._before()
        self._image = self._open()
        self._check()
        self.profile = safe_profile(self.profile or self._image.info.get("icc_profile")) if options.icc else None
        self.orientation = exif_orientation(self.exif or self._image.info.get("exif")) if options.orient else 1
        width, height = self._image.size
        self.stored = width, height
        self.shown = (height, width) if ORIENTATIONS[self.orientation][0] else (width, height)

    def _before(self) -> None:
        """Check for headers that would make opening alone take too much memory or time."""
        if self.format == "PNG":
            self.data, self.profile = png_essentials(self.data)
        elif self.format in ("GIF", "WebP"):
            width, height = (gif_size if self.format == "GIF" else webp_size)(self.data)
            check_size(width, height, self.options)
            check_pixels(width, height, DECODE_COST[self.format], self.options)
        elif self.format == "JPEG":
            jpeg = jpeg_essentials(self.data)
            self.data, self.exif, self.scans = jpeg.data, jpeg.exif, jpeg.scans
            if jpeg.frame not in (0xC0, 0xC1, 0xC2):
                raise ImageRefused(
                    "format",
                    gettext_noop("This kind of JPEG (arithmetic or lossless) is not accepted. Save it again."),
                )
        else:
            cost = DECODE_COST[self.format]
            check_heif(self.data, lambda width, height: check_pixels(width, height, cost, self.options))

    def _open(self) -> Any:
        module, name = PLUGINS[self.format]
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            if self.format != "HEIC":
                raise
            raise ImageRefused(
                "heic",
                gettext_noop(
                    "HEIC photos can't be read here. Send the photo as JPEG, "
                    "or have django-visual-search[heic] installed."
                ),
            ) from None
        if not getattr(plugin, "SUPPORTED", True):
            raise ImageRefused(
                "format",
                gettext_noop("This server's Pillow was built without %(format)s. Save the picture as JPEG."),
                {"format": self.format},
            )
        return getattr(plugin, name)(BytesIO(self.data))

    def _check(self) -> None:
        width, height = self._image.size
        check_size(width, height, self.options)
        if self.format != "JPEG":
            check_pixels(width, height, self._cost(), self.options)
        elif self.scans > 1:
            # libjpeg then keeps every coefficient (two bytes each), whatever the size of the output.
            factors = [(layer[1], layer[2]) for layer in self._image.layer]
            whole = max(a for a, _ in factors) * max(b for _, b in factors)
            self.jpeg_cost = 2 * sum(a * b for a, b in factors) / max(1, whole)
            check_pixels(width, height, self.jpeg_cost, self.options)
            if width * height * self.scans > MAX_SCAN_PIXELS:
                raise ImageRefused(
                    "pixels",
                    gettext_noop("The JPEG has too many passes for its size. Save it again, not progressive."),
                )

    def _cost(self) -> float:
        if self.format != "PNG":
            return DECODE_COST[self.format]
        # Byte 24 is the bit depth. 16 bits inflate to twice the bytes: this keeps time, not memory, within bounds.
        return PNG_COST.get(self._image.mode, 4) * (2 if self.data[24] == 16 else 1)

    def render(self, region: Box, want: int, *, shortest: bool) -> tuple[Image.Image, bool]:
        """Return the region (fractions of the picture as shown), upright, and whether a finer rendering exists.

        The mode is L, RGB or CMYK. The longest (or shortest) side has at least ``want`` pixels and less than about
        twice that, or the file's own.
        """
        region = self._as_stored(region)
        width, height = self.stored
        side = (min if shortest else max)((region[2] - region[0]) * width, (region[3] - region[1]) * height)
        scale, finest = 1, 1
        if self.format == "JPEG":
            room = self.options.max_memory - self.jpeg_cost * width * height
            finest = next((s for s in (1, 2, 4) if 4 * width * height / s**2 <= room), 8)
            scale = max(finest, next((s for s in (8, 4, 2) if side / s >= want), 1))
            if self._image is None:
                self._image = self._open()
            self._image.draft(None, (max(1, width // scale), max(1, height // scale)))
        try:
            self._image.load()
        except OSError:
            if self.format != "JPEG":
                raise
            self._end_at((max(1, width // scale), max(1, height // scale)))
        image = self._image
        if self.format == "JPEG":
            self._image = None  # a loaded JPEG can't be decoded at another scale
        across, down = image.width / width, image.height / height
        left, top = math.floor(region[0] * image.width), math.floor(region[1] * image.height)
        right, bottom = math.ceil(region[2] * image.width), math.ceil(region[3] * image.height)
        factor = max(1, int(side * min(across, down) // want))
        small = shrink(image, (left, top, right, bottom), factor, self.options.background)
        turn = ORIENTATIONS[self.orientation][3]
        return small.transpose(turn) if turn is not None else small, scale * factor > finest

    def _end_at(self, size: tuple[int, int]) -> None:
        """Decode a JPEG that lacks only the marker of its end, as browsers do. Raises OSError if it lacks more.

        More is missing if other bytes in the marker's place would change the picture.
        """
        whole = self.data.rstrip(b"\xff")
        digests = []
        for missing in (OTHER_BYTES, b""):
            self.data = whole + missing + END_OF_JPEG
            self._image = self._open()
            self._image.draft(None, size)
            self._image.load()
            digests.append(_pixels_digest(self._image))
        if digests[0] != digests[1]:
            raise BrokenError("truncated")

    def _as_stored(self, region: Box) -> Box:
        swap, flip_x, flip_y, _ = ORIENTATIONS[self.orientation]
        x0, y0, x1, y1 = region
        if swap:
            x0, y0, x1, y1 = y0, x0, y1, x1
        if flip_x:
            x0, x1 = 1 - x1, 1 - x0
        if flip_y:
            y0, y1 = 1 - y1, 1 - y0
        return x0, y0, x1, y1


END_OF_JPEG = b"\xff\xd9"
OTHER_BYTES = b"\x55" * 64


def _pixels_digest(image: Image.Image) -> bytes:
    digest, rows = hashlib.blake2b(), max(1, STRIP // image.width)
    for y in range(0, image.height, rows):
        digest.update(image.crop((0, y, image.width, min(y + rows, image.height))).tobytes())
    return digest.digest()


PLAIN = ("L", "RGB", "CMYK")
STRIP = 1_000_000  # pixels converted at once, so that memory never holds a second whole picture


def shrink(
    image: Image.Image, box: tuple[int, int, int, int], factor: int, background: tuple[int, int, int]
) -> Image.Image:
    """Return the box of the image, each ``factor`` x ``factor`` pixels averaged, in one of the PLAIN modes."""
    if image.mode in PLAIN and "transparency" not in image.info:
        return image.reduce(factor, box)
    left, top, right, bottom = box
    rows = max(1, STRIP // ((right - left) * factor)) * factor
    whole: Image.Image | None = None
    for y in range(top, bottom, rows):
        part = _flatten(image.crop((left, y, right, min(y + rows, bottom))), background).reduce(factor)
        if whole is None:
            whole = Image.new(part.mode, (part.width, math.ceil((bottom - top) / factor)))
        whole.paste(part, (0, (y - top) // factor))
    if whole is None:
        raise BrokenError("no rows")
    return whole


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion of 16 bits clips at 255 instead of scaling. 65535 / 255 = 257.
        values = image.convert("I")
        grey = values.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        clear = image.info.get("transparency")
        if not isinstance(clear, int):
            return grey
        flat = Image.new("RGB", image.size, background)
        flat.paste(grey, mask=values.point([255 * (value != clear) for value in range(2**16)], "L"))
        return flat
    if "transparency" not in image.info and image.mode in ("1", "P"):
        return image.convert("L" if image.mode == "1" else "RGB")
    image = image.convert("RGBA")
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image)
    return flat
