"""Composites: two to four cut-out products on a photograph or a drawn ground, with the box of each.

Entry function: ``composites``. There are two sets, which share neither products nor backgrounds: one to tune on, one
to report. Groceries come from the shop pictures of ``../shared/data``, drawn products from the example shop.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from example_project.shop.drawing.catalogue import catalogue
from example_project.shop.drawing.kinds import KINDS
from example_project.shop.drawing.scenes import SCENES, studio
from example_project.shop.drawing.write import cutout

from ..grocery import GROCERY, products

Box = tuple[float, float, float, float]
GROUNDS = ("drawn", "blurred", "sharp")
"""Backgrounds: a drawn scene; a store photo out of focus; one in focus, full of other groceries."""
SETS = ("tuning", "reporting")


@dataclass(frozen=True)
class Thing:
    """A product of a composite: its name, its picture in the shop's catalogue, and the box that it fills."""

    product: str
    box: Box


@dataclass(frozen=True)
class Composite:
    ground: str
    kind: str
    """What it shows: "grocery" or "drawn"."""
    photo: bytes
    things: tuple[Thing, ...]


@functools.cache
def shop_pictures(kind: str) -> dict[str, Image.Image]:
    """Return the catalogue picture of every product, of both sets: the gallery that a box is searched in."""
    if kind == "grocery":
        return {name: Image.open(io.BytesIO(picture.read())).convert("RGB") for name, picture in products()}
    return {item.name: studio(cut, item.design.seed) for item, cut in _drawn()}


@functools.cache
def _drawn() -> list[tuple[object, Image.Image]]:
    return [(item, cutout(item.design)) for item in catalogue(per_kind=6)]


@functools.cache
def cutouts(kind: str, which: str) -> dict[str, Image.Image]:
    """Return products without their ground, RGBA, of one set: every other kind of product."""
    half = SETS.index(which)
    if kind == "drawn":
        kinds = sorted(KINDS)[half::2]
        return {item.name: _tight(cut) for item, cut in _drawn() if item.design.kind in kinds}
    coarse = [picture.name.split("/")[2] for _, picture in products()]
    kept = set(sorted(set(coarse))[half::2])
    found = zip(products(), coarse, strict=True)
    return {name: _from_white(shop_pictures("grocery")[name]) for (name, _), group in found if group in kept}


def _tight(picture: Image.Image) -> Image.Image:
    return picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 40)).getbbox())


def _from_white(picture: Image.Image) -> Image.Image:
    """Cut a product off its white ground, wherever that reaches the border."""
    framed = Image.new("RGB", (picture.width + 2, picture.height + 2), "white")
    framed.paste(picture, (1, 1))
    marked = framed.copy()
    ImageDraw.floodfill(marked, (0, 0), (255, 0, 255), thresh=40)
    ground = ImageChops.difference(marked, Image.new("RGB", marked.size, (255, 0, 255))).convert("L")
    alpha = ground.point(lambda value: 255 * (value > 0)).filter(ImageFilter.MinFilter(3))
    framed.putalpha(alpha.filter(ImageFilter.GaussianBlur(0.7)))
    return _tight(framed)


@functools.cache
def _store_photos(which: str) -> list[str]:
    lines = (GROCERY / ("train.txt" if which == "tuning" else "val.txt")).read_text().splitlines()
    return [line.split(", ")[0] for line in lines]


def _ground(ground: str, which: str, size: tuple[int, int], rng: Random) -> Image.Image:
    if ground == "drawn":
        scenes = ("table", "wooden", "room") if which == "tuning" else tuple(SCENES)
        values = SCENES[rng.choice(scenes)](rng, max(size))
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).crop((0, 0, *size))
    photo = Image.open(GROCERY / rng.choice(_store_photos(which))).convert("RGB")
    scale = max(size[0] / photo.width, size[1] / photo.height)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)
    photo = photo.crop((0, 0, *size))
    return photo.filter(ImageFilter.GaussianBlur(max(size) / 60)) if ground == "blurred" else photo


def composites(which: str, count: int, ground: str, kind: str, *, alone: bool = False) -> Iterator[Composite]:
    """Yield ``count`` composites of one set.

    Each product is 22 to 55 % as long as the picture's shorter side; ``alone``: one product, of 50 to 95 %.
    """
    pieces = cutouts(kind, which)
    for i in range(count):
        rng = Random(f"{which} {ground} {kind} {alone} {i}")
        size = rng.choice([(640, 640), (800, 600), (600, 800), (960, 640)])
        picture = _ground(ground, which, size, rng)
        placed: list[Thing] = []
        for name in rng.sample(sorted(pieces), 1 if alone else rng.randint(2, 4)):
            thing = pieces[name]
            scale = rng.uniform(*((0.5, 0.95) if alone else (0.22, 0.55))) * min(size) / max(thing.size)
            thing = thing.resize([max(8, round(side * scale)) for side in thing.size], Image.Resampling.LANCZOS)
            thing = _tight(thing.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True))
            alpha = thing.getchannel("A")
            lit = ImageEnhance.Brightness(thing.convert("RGB")).enhance(rng.uniform(0.85, 1.1))
            for _ in range(60):
                x, y = (rng.randint(0, max(0, whole - side)) for whole, side in zip(size, thing.size, strict=True))
                box = (x, y, x + thing.width, y + thing.height)
                if all(_apart(box, other.box, size) for other in placed):
                    picture.paste(lit, (x, y), alpha)
                    placed.append(Thing(name, tuple(v / s for v, s in zip(box, size * 2, strict=True))))
                    break
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=88)
        yield Composite(ground, kind, file.getvalue(), tuple(placed))


def _apart(box: tuple[int, ...], other: Box, size: tuple[int, int]) -> bool:
    x0, y0, x1, y1 = (v * s for v, s in zip(other, size * 2, strict=True))
    gap = 0.01 * min(size)
    return box[0] > x1 + gap or box[2] < x0 - gap or box[1] > y1 + gap or box[3] < y0 - gap
