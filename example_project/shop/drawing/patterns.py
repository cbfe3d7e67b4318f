"""Patterns as masks over the whole picture; each part shows its section."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .shapes import SIZE, Mask

NAMES = ("striped", "banded", "dotted", "checked", "diagonal", "zigzag", "speckled", "colour-block")

FINE = SIZE * 2


def _mask(values: NDArray[np.bool_]) -> Mask:
    whole = np.broadcast_to(values.view(np.uint8), (FINE, FINE)) * np.uint8(255)
    return Image.fromarray(whole).resize((SIZE, SIZE), Image.Resampling.BOX)


def _remainder(values: NDArray[np.float32], period: float) -> NDArray[np.float64]:
    """Return ``values % period``, exactly, for values of 0 or more: NumPy's own takes several times as long."""
    wide, step = values.astype(np.float64), float(np.float32(period))
    whole = wide / step
    np.floor(whole, out=whole)
    whole *= step
    return np.subtract(wide, whole, out=whole)


def pattern(name: str, rng: Random, *, period: float | None = None) -> Mask:
    """Return the mask of a pattern of ``NAMES``. Raises KeyError for an unknown name.

    ``period``: distance of repetition in hundredths of the picture.
    """
    y, x = (axis.astype(np.float32) * (100 / FINE) for axis in np.ogrid[0:FINE, 0:FINE])
    p = period or rng.uniform(5, 10)
    if name == "striped":
        return _mask(x % p < p * rng.uniform(0.25, 0.5))
    if name == "banded":
        return _mask(y % p < p * rng.uniform(0.3, 0.5))
    if name == "diagonal":
        return _mask(_remainder(x + y, p) < np.float32(p * 0.45))
    if name == "dotted":
        odd = np.floor(y[:, 0] / p) % 2
        shifts = np.array([[0], [1]], np.float32)
        dx, dy = (x + shifts * p / 2) % p - p / 2, y % p - p / 2
        return _mask((dx**2)[odd.astype(int)] + dy**2 < (p * rng.uniform(0.2, 0.3)) ** 2)
    if name == "checked":
        across, down = ((axis % p < p / 2) * np.uint8(115) for axis in (x, y))
        return Image.fromarray(across + down).resize((SIZE, SIZE))
    if name == "zigzag":
        return _mask(_remainder(y + np.abs(x % p - p / 2), p) < np.float32(p * 0.4))
    if name == "colour-block":
        edge = rng.uniform(45, 60)
        return _mask(y > edge) if rng.random() < 0.6 else _mask(x + 0.6 * y > edge + 30)
    if name == "speckled":
        spots = np.zeros((FINE, FINE), np.bool_)
        for _ in range(420):
            cx, cy, radius = rng.uniform(0, 100), rng.uniform(0, 100), rng.uniform(0.25, 0.8)
            r = int(radius * FINE / 100) + 1
            px, py = int(cx * FINE / 100), int(cy * FINE / 100)
            rows, columns = slice(max(0, py - r), py + r), slice(max(0, px - r), px + r)
            spots[rows, columns] |= (x[:, columns] - cx) ** 2 + ((y[rows] - cy) * 1.4) ** 2 < radius**2
        return _mask(spots)
    raise KeyError(name)
