"""Pictures that show nothing that any shop sells, drawn: confidence must be low for them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIDE = 256


def drawn(count: int, seed: int = 0) -> list[Image.Image]:
    """``count`` RGB pictures of 256² pixels: noise, soft patches, flat shapes and lines of text, in turn."""
    makers = (_noise, _patches, _shapes, _text)
    return [makers[i % len(makers)](np.random.default_rng([seed, i])) for i in range(count)]


def _noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def _patches(rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(3, 40))
    patches = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return patches.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _shapes(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 12))):
        (x0, x1), (y0, y1) = np.sort(rng.integers(0, SIDE, (2, 2)), axis=1).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x0, y0, x1, y1), fill=_colour(rng))
    return picture


def _text(rng: np.random.Generator) -> Image.Image:
    paper, ink = ((255, 255, 255), (0, 0, 0)) if rng.random() < 0.5 else (_colour(rng), _colour(rng))
    page = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(page)
    for line in range(SIDE // 20):
        draw.text((8, 4 + 20 * line), "".join(map(chr, rng.integers(97, 123, 36).tolist())), fill=ink)
    return page


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue
