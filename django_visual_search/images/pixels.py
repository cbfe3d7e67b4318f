"""From any Pillow mode to greyscale, RGB or CMYK, in little memory."""

from __future__ import annotations

import math

from PIL import Image

from .formats import BrokenError

PLAIN = ("L", "RGB", "CMYK")
STRIP = 1_000_000  # pixels converted at once, so that no second whole picture is ever in memory


def shrink(
    image: Image.Image, box: tuple[int, int, int, int], factor: int, background: tuple[int, int, int]
) -> Image.Image:
    """The box of the image, each ``factor`` x ``factor`` pixels averaged, in one of the PLAIN modes."""
    if image.mode in PLAIN and "transparency" not in image.info:
        return image.reduce(factor, box)
    left, top, right, bottom = box
    rows = max(1, STRIP // ((right - left) * factor)) * factor
    whole: Image.Image | None = None
    for y in range(top, bottom, rows):
        part = _plain(image.crop((left, y, right, min(y + rows, bottom))), background).reduce(factor)
        if whole is None:
            whole = Image.new(part.mode, (part.width, math.ceil((bottom - top) / factor)))
        whole.paste(part, (0, (y - top) // factor))
    if whole is None:
        raise BrokenError("no rows")
    return whole


def _plain(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion of 16 bits clips at 255 instead of scaling. 65535 / 255 = 257.
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if "transparency" not in image.info and image.mode in ("1", "P"):
        return image.convert("L" if image.mode == "1" else "RGB")
    image = image.convert("RGBA")
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image)
    return flat
