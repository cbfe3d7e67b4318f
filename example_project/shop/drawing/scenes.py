"""Turn a cut-out into a picture: the studio's (``studio``) or a photo taken at home (``photo``)."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .palette import WOODS, Colour, lighter
from .shapes import SIZE, around

Pixels = NDArray[np.float32]


def _noise(rng: Random, width: int, height: int) -> Pixels:
    """Return standard normal noise, ``(height, width)``."""
    return np.random.default_rng(rng.getrandbits(32)).standard_normal((height, width), np.float32)


def _picture(values: Pixels) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8), "RGB")


def _stretched(values: Pixels, size: int) -> Pixels:
    """Enlarge small noise to soft patches."""
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _ramp(top: Colour, bottom: Colour, size: int) -> Pixels:
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    return np.broadcast_to(
        np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share, (size, size, 3)
    ).copy()


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
    rng = Random(f"studio {seed}")
    tone = rng.uniform(240, 248)
    ground = _ramp((int(tone), int(tone), int(tone - 1)), (int(tone - 10), int(tone - 11), int(tone - 13)), SIZE)
    y, x = (axis.astype(np.float32) / SIZE - 0.5 for axis in np.ogrid[0:SIZE, 0:SIZE])
    ground += (9 - 34 * ((x + 0.08) ** 2 + (y + 0.1) ** 2))[..., None]
    return _with_shadow(_picture(ground), cutout, opacity=0.42)


def _wooden(rng: Random, size: int) -> Pixels:
    base = np.array(rng.choice(list(WOODS.values())))
    planks = rng.randint(4, 7)
    edges = (np.arange(size) * planks // size).astype(int)
    tones = np.array([rng.uniform(-16, 16) for _ in range(planks)])[edges]
    grain = np.asarray(
        Image.fromarray(_noise(rng, 12, size)).resize((size, size), Image.Resampling.BICUBIC), np.float32
    )
    values = base + (tones[:, None] + grain * 9)[..., None]
    values[np.flatnonzero(np.diff(edges, prepend=0))] *= 0.6
    return np.asarray(values, np.float32)


def _room(rng: Random, size: int) -> Pixels:
    wall = rng.choice(
        [(214, 206, 194), (182, 196, 200), (208, 184, 170), (176, 186, 170), (120, 132, 146), (228, 222, 212)]
    )
    values = _ramp(wall, lighter(wall, 0.12), size)
    edge = int(size * rng.uniform(0.62, 0.78))
    floor = _wooden(rng, size) if rng.random() < 0.7 else _ramp((168, 160, 152), (196, 188, 178), size)
    values[edge:] = floor[edge:]
    values[edge - 5 : edge] = np.array(lighter(wall, 0.5))
    return values


def _cloth(rng: Random, size: int) -> Pixels:
    base = np.array(rng.choice([(196, 188, 176), (104, 116, 130), (150, 122, 104), (88, 104, 92), (226, 220, 210)]))
    folds = _stretched(_noise(rng, 5, 5), size) * 14
    weave = _noise(rng, size, size) * 5
    return np.asarray(base + (folds + weave)[..., None], np.float32)


def _table(rng: Random, size: int) -> Pixels:
    tone = rng.choice([(232, 228, 220), (222, 226, 228), (236, 224, 212), (226, 230, 222)])
    return np.asarray(np.array(tone) + (_stretched(_noise(rng, 4, 4), size) * 3)[..., None], np.float32)


def _outdoors(rng: Random, size: int) -> Pixels:
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
    return np.asarray(
        small.resize((size, size), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(14)), np.float32
    ).copy()


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
    # Premultiplied, or the transform would mix the black of transparent pixels into the edges
    flat = cutout.convert("RGBa").transform(
        cutout.size, Image.Transform.PERSPECTIVE, list(solved), Image.Resampling.BICUBIC
    )
    return flat.convert("RGBA")


def photo(cutout: Image.Image, seed: str, scene: str | None = None) -> Image.Image:
    """Return a customer's photo: other background, light and viewpoint, a softer lens and a noisier sensor.

    ``scene``: one of ``SCENES``; None leaves it to the seed.
    """
    rng = Random(f"photo {seed}")
    ground = SCENES[scene or rng.choice(["table", "room", "wooden", "cloth", "outdoors"])](rng, SIZE)
    ground_image = _picture(ground).filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 4)))
    seen = _viewpoint(cutout, rng)
    placed = _with_shadow(ground_image, seen, opacity=rng.uniform(0.4, 0.65), lean=rng.uniform(-0.15, 0.15), blur=11)
    values = np.asarray(placed.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.1))), np.float32)
    y, x = (axis.astype(np.float32) / SIZE - 0.5 for axis in np.ogrid[0:SIZE, 0:SIZE])
    slope = rng.uniform(0.1, 0.34)
    lamp = 1 + slope * (x * rng.choice([-1, 1]) - y * 0.7) - 0.35 * (x * x + y * y)
    warmth, exposure = rng.uniform(-0.07, 0.09), rng.uniform(0.84, 1.12)
    cast = np.array([1 + warmth, 1, 1 - warmth])
    values = values * lamp[..., None] * cast * exposure
    values += np.stack([_noise(rng, SIZE, SIZE) for _ in range(3)], axis=-1) * rng.uniform(1.5, 5)
    return _picture(np.asarray(values, np.float32))
