"""Turn a cut-out into a picture: the studio's (``studio``) or a photo taken at home (``photo``)."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .palette import WOODS, Colour, lighter
from .shapes import SIZE, around

Pixels = NDArray[np.float32]
"""One channel, ``(height, width)``, or three, ``(3, height, width)``: NumPy is faster with rows than with triples."""


def _noise(rng: Random, width: int, height: int) -> Pixels:
    """Return standard normal noise, ``(height, width)``."""
    return np.random.default_rng(rng.getrandbits(32)).standard_normal((height, width), np.float32)


def _picture(channels: Iterable[Pixels]) -> Image.Image:
    """Return the RGB picture of three channels."""
    return Image.merge("RGB", [Image.fromarray(np.clip(channel, 0, 255).astype(np.uint8)) for channel in channels])


def _tinted(colour: Colour, shades: NDArray[np.floating]) -> Image.Image:
    """Return a picture of one colour with the same shades in each channel."""
    return _picture(np.asarray(value + shades, np.float32) for value in colour)


def _stretched(values: Pixels, size: int) -> Pixels:
    """Enlarge small noise to soft patches."""
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _ramp(top: Colour, bottom: Colour, size: int) -> Pixels:
    share = np.linspace(0, 1, size, dtype=np.float32)
    columns = [np.float32(high) * (1 - share) + np.float32(low) * share for high, low in zip(top, bottom, strict=True)]
    return np.repeat(np.stack(columns)[..., None], size, axis=2)


def _with_shadow(
    ground: Image.Image, cutout: Image.Image, *, opacity: float, lean: float = 0.0, blur: float = 9
) -> Image.Image:
    """Set the product down with a soft, flat shadow that leans away from the light."""
    alpha = cutout.getchannel("A")
    bounds = alpha.getbbox()
    assert bounds is not None
    left, top, right, foot = bounds
    flat = alpha.crop(bounds).resize((right - left, max(8, (foot - top) // 6)), Image.Resampling.BILINEAR)
    shadow = Image.new("L", cutout.size)
    shadow.paste(flat, (left + int(lean * (right - left)), foot - int(flat.height * 0.72)))
    if region := around(shadow, int(blur * 3) + 6):
        shadow = shadow.crop(region).filter(ImageFilter.GaussianBlur(blur)).point(lambda value: int(value * opacity))
        ground.paste((20, 18, 24), region[:2], shadow)
    ground.paste(cutout, (0, 0), cutout)
    return ground


def studio(cutout: Image.Image, seed: str) -> Image.Image:
    """Return the catalogue's picture: a bright seamless backdrop, light from the upper left."""
    tone = Random(f"studio {seed}").uniform(240, 248)
    return _with_shadow(_backdrop(int(tone)).copy(), cutout, opacity=0.42)


@functools.cache
def _backdrop(tone: int) -> Image.Image:
    ground = _ramp((tone, tone, tone - 1), (tone - 10, tone - 11, tone - 13), SIZE)
    y, x = (axis.astype(np.float32) / SIZE - 0.5 for axis in np.ogrid[0:SIZE, 0:SIZE])
    ground += 9 - 34 * ((x + 0.08) ** 2 + (y + 0.1) ** 2)
    return _picture(ground)


def _wooden(rng: Random, size: int) -> Image.Image:
    base = rng.choice(list(WOODS.values()))
    planks = rng.randint(4, 7)
    edges = (np.arange(size) * planks // size).astype(int)
    tones = np.array([rng.uniform(-16, 16) for _ in range(planks)])[edges]
    grain = np.asarray(
        Image.fromarray(_noise(rng, 12, size)).resize((size, size), Image.Resampling.BICUBIC), np.float32
    )
    shades = tones[:, None] + grain * 9
    gaps = np.flatnonzero(np.diff(edges, prepend=0))
    picture = _tinted(base, shades)
    for gap in gaps.tolist():
        shade = _picture([np.asarray((value + shades[gap : gap + 1]) * 0.6, np.float32) for value in base])
        picture.paste(shade, (0, gap))
    return picture


def _room(rng: Random, size: int) -> Image.Image:
    wall = rng.choice(
        [(214, 206, 194), (182, 196, 200), (208, 184, 170), (176, 186, 170), (120, 132, 146), (228, 222, 212)]
    )
    picture = _picture(_ramp(wall, lighter(wall, 0.12), size))
    edge = int(size * rng.uniform(0.62, 0.78))
    floor = _wooden(rng, size) if rng.random() < 0.7 else _picture(_ramp((168, 160, 152), (196, 188, 178), size))
    picture.paste(floor.crop((0, edge, size, size)), (0, edge))
    picture.paste(lighter(wall, 0.5), (0, edge - 5, size, edge))
    return picture


def _cloth(rng: Random, size: int) -> Image.Image:
    base = rng.choice([(196, 188, 176), (104, 116, 130), (150, 122, 104), (88, 104, 92), (226, 220, 210)])
    folds = _stretched(_noise(rng, 5, 5), size) * 14
    weave = _noise(rng, size, size) * 5
    return _tinted(base, folds + weave)


def _table(rng: Random, size: int) -> Image.Image:
    tone = rng.choice([(232, 228, 220), (222, 226, 228), (236, 224, 212), (226, 230, 222)])
    return _tinted(tone, _stretched(_noise(rng, 4, 4), size) * 3)


def _outdoors(rng: Random, size: int) -> Image.Image:
    small = Image.new("RGB", (24, 24))
    for x in range(24):
        for y in range(24):
            green = rng.uniform(0, 1)
            colour = (
                (70 + 90 * green, 110 + 80 * green, 66 + 60 * green)
                if y > 6
                else (176 + 50 * green, 204 + 30 * green, 222 + 20 * green)
            )
            small.putpixel((x, y), tuple(int(value) for value in colour))
    return small.resize((size, size), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(14))


SCENES = {"table": _table, "wooden": _wooden, "room": _room, "cloth": _cloth, "outdoors": _outdoors}


def _viewpoint(cutout: Image.Image, rng: Random) -> Image.Image:
    """Show the product from a little to one side, at another distance, with the camera not quite level."""
    s = float(SIZE)
    jitter = [rng.uniform(-0.07, 0.07) * s for _ in range(8)]
    target = np.array([(0, 0), (s, 0), (s, s), (0, s)]) + np.reshape(jitter, (4, 2))
    shrink, tilt = rng.uniform(0.74, 0.95), np.radians(rng.uniform(-7, 7))
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    shift = np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.03, 0.05)]) * s
    target = (target - s / 2) @ turn.T * shrink + s / 2 + shift
    rows, values = [], []
    for (u, v), (x, y) in zip(target, [(0, 0), (s, 0), (s, s), (0, s)], strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
        values += [x, y]
    solved = np.linalg.solve(np.array(rows), np.array(values))
    seen = Image.new("RGBA", cutout.size)
    if (corners := around(cutout.getchannel("A"), 3)) is None:
        return seen
    # Only the part of the picture that the product comes to is transformed.
    back = np.append(solved, 1).reshape(3, 3)
    left, top, right, bottom = corners
    places = np.linalg.solve(back, np.array([(x, y, 1) for x in (left, right) for y in (top, bottom)], float).T)
    (x0, y0), (x1, y1) = (places[:2] / places[2]).min(axis=1), (places[:2] / places[2]).max(axis=1)
    x0, y0, x1, y1 = max(0, int(x0)), max(0, int(y0)), min(SIZE, int(x1) + 1), min(SIZE, int(y1) + 1)
    moved = back @ np.array([(1, 0, x0), (0, 1, y0), (0, 0, 1)])
    # Premultiplied, or the transform would mix the black of transparent pixels into the edges
    flat = cutout.convert("RGBa").transform(
        (x1 - x0, y1 - y0),
        Image.Transform.PERSPECTIVE,
        (moved / moved[2, 2]).ravel()[:8].tolist(),
        Image.Resampling.BICUBIC,
    )
    seen.paste(flat.convert("RGBA"), (x0, y0))
    return seen


def photo(cutout: Image.Image, seed: str, scene: str | None = None) -> Image.Image:
    """Return a customer's photo: other background, light and viewpoint, a softer lens and a noisier sensor.

    ``scene``: one of ``SCENES``; None leaves it to the seed.
    """
    rng = Random(f"photo {seed}")
    ground = SCENES[scene or rng.choice(["table", "room", "wooden", "cloth", "outdoors"])](rng, SIZE)
    ground_image = ground.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 4)))
    seen = _viewpoint(cutout, rng)
    placed = _with_shadow(ground_image, seen, opacity=rng.uniform(0.4, 0.65), lean=rng.uniform(-0.15, 0.15), blur=11)
    taken = placed.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.1)))
    y, x = (axis.astype(np.float32) / SIZE - 0.5 for axis in np.ogrid[0:SIZE, 0:SIZE])
    slope = rng.uniform(0.1, 0.34)
    lamp = 1 + slope * (x * rng.choice([-1, 1]) - y * 0.7) - 0.35 * (x * x + y * y)
    warmth, exposure = rng.uniform(-0.07, 0.09), rng.uniform(0.84, 1.12)
    grain = [_noise(rng, SIZE, SIZE) for _ in range(3)]
    strength = np.float32(rng.uniform(1.5, 5))
    channels = []
    # Each channel by itself: NumPy is several times as fast with whole rows as with triples.
    for channel, noise, cast in zip(taken.split(), grain, (1 + warmth, 1, 1 - warmth), strict=True):
        noise *= strength
        noise += np.asarray(channel) * (lamp * np.float32(cast * exposure))
        channels.append(Image.fromarray(np.clip(noise, 0, 255, out=noise).astype(np.uint8)))
    return Image.merge("RGB", channels)
