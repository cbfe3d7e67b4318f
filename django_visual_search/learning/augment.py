"""Alter pictures as another photo of the same thing might differ: Pillow and NumPy, seeded.

Entry functions: ``alter`` applies one alteration at a given strength, to measure how robust a search is;
``altered_views`` mixes several, to stand in for second pictures of products that have only one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

Rng = np.random.Generator
Alter = Callable[[Image.Image, float, Rng], Image.Image]

PLAIN_LEVELS = 24
"""Grey levels by which a plain background may differ from a corner's colour."""

BACKGROUND_SHARE = (0.05, 0.97)
"""Least and largest share of a picture that a plain background covers."""


def crop(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Keep a random box of 1 - ``strength`` / 2 of each side, of nearly the same shape."""
    sides = [
        max(1, round(side * (1 - strength / 2) * rng.uniform(0.9, 1.0))) if strength else side for side in picture.size
    ]
    x, y = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(picture.size, sides, strict=True))
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=(x, y, x + sides[0], y + sides[1]))


def light(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Change brightness, contrast and saturation by up to a factor of 1 + ``strength``, and the tint."""
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhancer(picture).enhance(float((1 + strength) ** _either(rng)))
    warmth = 1 + 0.25 * strength * _either(rng)
    red, green, blue = picture.split()
    return Image.merge(
        "RGB", (red.point([min(255, round(i * warmth)) for i in range(256)]), green,
                blue.point([min(255, round(i / warmth)) for i in range(256)]))
    )  # fmt: skip


def rotation(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Turn by up to ``strength`` * 90 degrees, scaled so that no corner is empty."""
    degrees = 90 * strength * _either(rng)
    angle = np.deg2rad(abs(degrees))
    width, height = picture.size
    scale = np.cos(angle) + np.sin(angle) * max(width, height) / min(width, height)
    turned = picture.rotate(degrees, Image.Resampling.BICUBIC)
    # Two pixels less: resampling reads that far beyond the box.
    x, y = (max(side / scale / 2 - 2, side / scale / 4) for side in picture.size)
    box = (width / 2 - x, height / 2 - y, width / 2 + x, height / 2 + y)
    return turned.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def background(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Replace a plain background behind a thing, blended by ``strength``; else shrink the picture onto a new one.

    A plain background is filled from the corners through their colour, so that white within a thing stays. The new one
    is a smooth pattern of few colours.
    """
    new = _pattern(picture.size, rng)
    thing = _thing(picture)
    if thing is not None:
        behind = Image.blend(picture, new, min(1.0, strength))
        return Image.composite(picture, behind, thing.filter(ImageFilter.GaussianBlur(1)))
    sides = [max(1, round(side * (1 - strength * 0.4))) for side in picture.size]
    x, y = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(picture.size, sides, strict=True))
    new.paste(picture.resize((sides[0], sides[1]), Image.Resampling.HAMMING), (x, y))
    return new


def blur(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Blur by a Gaussian of up to ``strength`` * 3 % of the shorter side."""
    return picture.filter(ImageFilter.GaussianBlur(0.03 * strength * min(picture.size) * rng.uniform(0.5, 1.0)))


def jpeg(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Save as JPEG of quality 90 down to 5 at full ``strength``; nothing is random."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=max(5, round(90 - 85 * strength)))
    with Image.open(file) as saved:
        return saved.convert("RGB")


def flip(picture: Image.Image, strength: float, rng: Rng) -> Image.Image:
    """Exchange left and right, at any ``strength`` above 0."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if strength else picture


ALTERATIONS_BY_NAME: dict[str, Alter] = {
    "crop": crop,
    "light": light,
    "rotation": rotation,
    "background": background,
    "blur": blur,
    "jpeg": jpeg,
    "flip": flip,
}

TRAINING = {"crop": 0.6, "light": 0.5, "rotation": 0.25, "background": 0.8, "blur": 0.3, "jpeg": 0.7, "flip": 1.0}
"""The greatest strength of each alteration in ``altered_views``, as a customer's photo of a product may differ."""


def alter(picture: Image.Image, name: str, strength: float = 0.5, seed: int | Sequence[int] = 0) -> Image.Image:
    """Return an RGB picture after one of ALTERATIONS_BY_NAME, in the same size. ``strength``: 0, unaltered, to 1.

    Equal arguments give equal pixels with one version of Pillow. Raises ValueError for an unknown name, a strength out
    of range and a mode other than RGB.
    """
    if name not in ALTERATIONS_BY_NAME:
        raise ValueError(f"There is no alteration {name!r}; choose one of {', '.join(ALTERATIONS_BY_NAME)}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"The strength of an alteration is from 0 to 1, not {strength}.")
    if picture.mode != "RGB":
        raise ValueError(f"Only RGB pictures are altered, not {picture.mode}.")
    if strength == 0:
        return picture.copy()
    return ALTERATIONS_BY_NAME[name](picture, strength, np.random.default_rng(seed))


def altered_views(picture: Image.Image, count: int, seed: int | Sequence[int] = 0) -> list[Image.Image]:
    """Make ``count`` views of an RGB picture: ``altered_view`` of the numbers from 0."""
    return [altered_view(picture, number, seed) for number in range(count)]


def altered_view(picture: Image.Image, number: int, seed: int | Sequence[int] = 0) -> Image.Image:
    """Make one view of an RGB picture, by two to four alterations of TRAINING at random, in that order.

    Raises ValueError as ``alter`` does.
    """
    rng = np.random.default_rng([*([seed] if isinstance(seed, int) else seed), number])
    chosen = set(rng.choice(list(TRAINING), size=int(rng.integers(2, 5)), replace=False).tolist())
    view = picture
    for name, most in TRAINING.items():
        if name in chosen:
            view = alter(view, name, most * float(rng.uniform(0.4, 1.0)), int(rng.integers(2**31)))
    return view


def _either(rng: Rng) -> float:
    """Draw from -1 to -.5 or .5 to 1: a hardly visible alteration teaches nothing."""
    return float(rng.uniform(0.5, 1.0) * rng.choice([-1.0, 1.0]))


def _thing(picture: Image.Image) -> Image.Image | None:
    """Return a mask of the thing before a plain background, or None where the picture has no such background."""
    small = picture.copy()
    small.thumbnail((128, 128))
    pixels = np.asarray(small, np.int16)
    plain = np.zeros(pixels.shape[:2], bool)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        if not plain[corner]:
            alike = np.abs(pixels - pixels[corner]).sum(axis=2) <= PLAIN_LEVELS
            plain |= _connected(alike & ~plain, corner)
    if not BACKGROUND_SHARE[0] < plain.mean() < BACKGROUND_SHARE[1]:
        return None
    mask = Image.fromarray(np.where(plain, 0, 255).astype(np.uint8))
    return mask.resize(picture.size, Image.Resampling.BILINEAR)


def _connected(allowed: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the allowed pixels that neighbours, of four each, join to ``start``, which is allowed.

    A run of a row or a column is taken at once. Pillow's flood fill goes by pixels, in Python: five times as long.
    """
    found = np.zeros_like(allowed)
    found[start] = True
    rows, columns = _runs(allowed), _runs(allowed.T).T
    count = 0
    while (now := int(found.sum())) > count:
        count = now
        for run in (rows, columns):
            reached = np.zeros(run.max() + 1, bool)
            reached[run[found]] = True
            found = reached[run]
    return found


def _runs(allowed: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return a number for each run of allowed pixels in a row, at its pixels, and 0 elsewhere: ``(height, width)``."""
    begins = allowed.copy()
    begins[:, 1:] &= ~allowed[:, :-1]
    return np.where(allowed, np.cumsum(begins).reshape(allowed.shape), 0)


def _pattern(size: tuple[int, int], rng: Rng) -> Image.Image:
    patches = int(rng.integers(2, 7))
    colours = rng.normal(rng.uniform(40, 215, 3), 30, (patches, patches, 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
