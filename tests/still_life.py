"""Photos of several drawn products, with their boxes, for tests of objects. Entry function: ``still_life``."""

from __future__ import annotations

import functools
import io
from random import Random

import numpy as np
from PIL import Image

from example_project.shop.drawing.catalogue import catalogue
from example_project.shop.drawing.scenes import SCENES
from example_project.shop.drawing.write import cutout

SIZE = (640, 480)
PLACES = ((40, 40), (370, 60), (60, 260), (400, 270))
Box = tuple[float, float, float, float]


@functools.cache
def product(kind: str) -> Image.Image:
    """Return the first product of a kind, RGBA, as small as it is."""
    picture = cutout(next(item.design for item in catalogue(1) if item.design.kind == kind))
    return picture.crop(picture.getchannel("A").point(lambda alpha: 255 * (alpha > 40)).getbbox())


def still_life(scene: str, *kinds: str, side: int = 180) -> tuple[bytes, list[Box]]:
    """Return a JPEG of up to four products, ``side`` pixels long, on a drawn ground, and the box of each."""
    ground = SCENES[scene](Random(scene), max(SIZE))
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8)).crop((0, 0, *SIZE))
    boxes = []
    for kind, (x, y) in zip(kinds, PLACES, strict=False):
        thing = product(kind).copy()
        thing.thumbnail((side, side))
        picture.paste(thing, (x, y), thing)
        boxes.append((x / SIZE[0], y / SIZE[1], (x + thing.width) / SIZE[0], (y + thing.height) / SIZE[1]))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue(), boxes


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, wide) * max(0.0, high)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
