"""Colour, texture and shape of a picture as histograms: no network, no weights, no download; NumPy only.

Entry point: ``ClassicExtractor``.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backbone import BackboneExtractor
from .base import ArtifactStore

Floats = NDArray[np.float32]

LEVELS = 16
"""Steps of each of R, G and B before colours are looked up: 17 apart, a third of the finest Lab bin."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G, B in grey (ITU-R BT.601)."""

PATTERNS = 59
NOISE = 1.0  # grey levels by which a neighbour must be brighter, or JPEG noise fills flat areas with patterns


def srgb_to_lab(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """Return CIE L*a*b* under D65 of sRGB 0..255, both ``(…, 3)`` (IEC 61966-2-1 and CIE 15:2004)."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


class ColourBins(NamedTuple):
    """The Lab bins of each of ``LEVELS**3`` colours, at the corners around it: arrays ``(LEVELS**3, 8)``."""

    bins: NDArray[np.int_]
    shares: NDArray[np.float64]
    """The share of a colour in each bin; rows sum to 1."""
    total: int
    """Number of bins."""


@functools.cache
def colour_bins(lightness_bins: int, step: int) -> ColourBins:
    """Return ``lightness_bins`` along L* and bins ``step`` apart along a* and b*, without bins that few colours reach.

    They are triangles that overlap by half: a small change of light moves a little of a histogram, not a whole bin.
    """
    levels = np.arange(LEVELS) * (255 / (LEVELS - 1))
    lab = srgb_to_lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3))
    reach = 110 // step + 1  # a* and b* of sRGB lie within ±110
    position = np.stack(
        [lab[:, 0] / 100 * (lightness_bins - 1), lab[:, 1] / step + reach, lab[:, 2] / step + reach], axis=-1
    )
    lower = np.floor(position)
    shape = (lightness_bins + 1, 2 * reach + 2, 2 * reach + 2)
    corners = list(itertools.product((0, 1), repeat=3))
    bins = np.stack([np.ravel_multi_index((lower + corner).astype(int).T, shape) for corner in corners], axis=-1)
    shares = np.stack([np.prod(1 - np.abs(position - lower - corner), axis=-1) for corner in corners], axis=-1)
    reached = np.bincount(bins.ravel(), shares.ravel()) > 3
    shares *= reached[bins]
    shares /= shares.sum(axis=-1, keepdims=True)
    return ColourBins(np.maximum(np.cumsum(reached) - 1, 0)[bins], shares, int(reached.sum()))


AT_ONCE = 8
"""Pictures that are described at once, by few calls of NumPy: with more, their arrays leave the nearer caches."""


def colours(pictures: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the colour of each pixel as a row of ``colour_bins``: uint8 ``(n, s, s, 3)`` to ``(n, s, s)``."""
    level = _nearest_levels().take(pictures)
    return np.asarray((level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2])


@functools.cache
def _nearest_levels() -> NDArray[np.int32]:
    step = 255 // (LEVELS - 1)
    return np.asarray((np.arange(256) + step // 2) // step, np.int32)


@functools.cache
def first_bins(side: int, grid: int, bins: int) -> NDArray[np.int64]:
    """Return the first of the ``bins`` of each pixel's cell, ``(AT_ONCE, s, s)``: ``grid`` x ``grid`` in a picture."""
    row = np.arange(side) * grid // side
    return np.asarray((np.arange(AT_ONCE)[:, None, None] * grid**2 + row[:, None] * grid + row) * bins)


def colour_histograms(colour: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return histograms over fine bins, followed by those over coarse bins in each quarter of the picture.

    ``colour`` is ``(n, s, s)``, the result ``(n, 456 + 4 * 110)``.
    """
    count, side = colour.shape[:2]
    row = first_bins(side, 2, LEVELS**3)[:count] + colour
    counts = np.bincount(row.ravel(), minlength=count * 4 * LEVELS**3)
    # Only the few hundred colours that occur: a matrix product would wake BLAS threads, which stall on busy cores.
    found = np.flatnonzero(counts)
    quarter, row = np.divmod(found, LEVELS**3)
    palette = _palette()
    index = palette.bins.take(row, axis=0) + palette.first.take(quarter, axis=0)
    weight = palette.shares.take(row, axis=0) * counts[found, None]
    return np.asarray(np.bincount(index.ravel(), weight.ravel(), minlength=count * palette.total).reshape(count, -1))


class Palette(NamedTuple):
    """The fine and the coarse bins of each colour beside each other, ``(LEVELS**3, 16)``."""

    bins: NDArray[np.int_]
    shares: NDArray[np.float64]
    first: NDArray[np.int_]
    """What to add to bins in each quarter of each picture, ``(AT_ONCE * 4, 16)``."""
    total: int
    """Bins of a picture: the fine ones, and four times the coarse ones."""


@functools.cache
def _palette() -> Palette:
    fine, coarse = colour_bins(8, 14), colour_bins(4, 28)
    total = fine.total + 4 * coarse.total
    picture, quarter = np.divmod(np.arange(AT_ONCE * 4), 4)
    first = np.repeat(picture[:, None] * total, 16, axis=1)
    first[:, 8:] += fine.total + quarter[:, None] * coarse.total
    bins, shares = (np.concatenate(both, axis=1) for both in zip(fine[:2], coarse[:2], strict=True))
    return Palette(bins, shares, first, total)


@functools.cache
def _uniform_patterns() -> NDArray[np.int64]:
    codes = np.arange(256)
    changes = np.array([int(code ^ (code >> 1 | (code & 1) << 7)).bit_count() for code in codes])
    table = np.full(256, PATTERNS - 1)
    table[changes <= 2] = np.arange(PATTERNS - 1)
    return table


def binary_patterns(grey: Floats, scales: int = 3) -> NDArray[np.float64]:
    """Return local binary patterns (which neighbours of a pixel are brighter) at octaves.

    ``grey`` is ``(n, s, s)``, the result ``(n, scales * PATTERNS)``. The 58 uniform patterns have a bin each, the
    others share one (T. Ojala, M. Pietikäinen and T. Mäenpää, "Multiresolution gray-scale and rotation invariant
    texture classification with local binary patterns", 2002).
    """
    count, side = grey.shape[:2]
    first, pixels = _octaves(side, scales)
    sheet = np.zeros((count, *(length + 2 for length in first.shape[1:])), np.float32)
    for scale, (top, left) in enumerate(_corners(side, scales)):
        if scale:
            even = grey[:, : grey.shape[1] // 2 * 2, : grey.shape[1] // 2 * 2]
            top_row, bottom_row = even[:, ::2], even[:, 1::2]
            quarter = top_row[..., ::2] + bottom_row[..., ::2] + top_row[..., 1::2] + bottom_row[..., 1::2]
            grey = quarter * np.float32(0.25)
        sheet[:, top : top + grey.shape[1], left : left + grey.shape[1]] = grey
    centre = sheet[:, 1:-1, 1:-1] + NOISE
    height, width = centre.shape[1:]
    brighter = np.empty((*centre.shape, 8), bool)
    for bit, (y, x) in enumerate([(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]):
        np.greater(sheet[:, y : y + height, x : x + width], centre, out=brighter[..., bit])
    pattern = _uniform_patterns().take(np.packbits(brighter, bitorder="little"))
    pattern += first[:count].ravel()
    counts = np.bincount(pattern, minlength=count * (scales + 1) * PATTERNS).reshape(count, -1)
    return counts[:, : scales * PATTERNS] / pixels


def _corners(side: int, scales: int) -> list[tuple[int, int]]:
    """Return where each octave is on a sheet: the first at the left, the others at its right, below each other."""
    return [(0, 0), *((side - (side >> scale - 1), side) for scale in range(1, scales))]


@functools.cache
def _octaves(side: int, scales: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first bin of each pixel of AT_ONCE sheets, less their margin, and the pixels behind each bin.

    Pixels on the margin of an octave, and those of none, have bins after the others.
    """
    sides = [side >> scale for scale in range(scales)]
    first = np.full((side - 2, side + (sides[1] if scales > 1 else 0) - 2), scales * PATTERNS)
    for scale, (top, left) in enumerate(_corners(side, scales)):
        inner = sides[scale] - 2
        first[top : top + inner, left : left + inner] = scale * PATTERNS
    pictures = np.arange(AT_ONCE)[:, None, None] * (scales + 1) * PATTERNS
    return pictures + first, np.repeat([(length - 2) ** 2 for length in sides], PATTERNS)


def edge_orientations(grey: Floats, grid: int, bins: int) -> NDArray[np.float64]:
    """Return edge strength by orientation (0 to 180 degrees) in each cell: ``(n, s, s)`` to ``(n, grid**2 * bins)``.

    Histograms of oriented gradients (N. Dalal and B. Triggs, 2005), with linear interpolation between orientations.
    """
    dy, dx = np.zeros_like(grey), np.zeros_like(grey)
    np.subtract(grey[:, 2:], grey[:, :-2], out=dy[:, 1:-1])
    np.subtract(grey[:, :, 2:], grey[:, :, :-2], out=dx[:, :, 1:-1])
    strength = np.hypot(dx, dy)
    angle = (np.arctan2(dy, dx) * np.float32(bins / np.pi)).clip(-bins, bins)
    lower = np.floor(angle)
    upper_strength = (angle - lower) * strength
    turns = 2 * bins + 2  # directions, of which opposite ones are one orientation, and room for the last one's upper
    count, side = grey.shape[:2]
    index = (first_bins(side, grid, turns)[:count] + lower.astype(np.int64) + bins).ravel()
    energy = np.bincount(index, (strength - upper_strength).ravel(), minlength=count * grid**2 * turns)
    energy[1:] += np.bincount(index, upper_strength.ravel(), minlength=len(energy))[:-1]
    energy = energy.reshape(-1, turns)
    folded = energy[:, :bins] + energy[:, bins : 2 * bins]
    folded[:, :2] += energy[:, 2 * bins :]
    return np.asarray(folded.reshape(count, -1))


DESCRIPTOR_VERSION = 1
"""Raised whenever the same pixels give other features; part of every key."""

SHARES = {"colour": 0.50, "layout": 0.12, "texture": 0.25, "shape": 0.13}
"""Share of each block in the cosine of two pictures. The ratio of colour to texture was best on the grocery photos with
even labels. These hardly reward layout and shape, which help shops whose kinds differ by them."""

DESCRIPTOR_WIDTH = 1201
"""Features a picture: 456 + 440 + 177 + 128 in that order."""

SMALLEST_PICTURE = 32


def identity() -> tuple[object, ...]:
    """Return everything that ``describe`` depends on."""
    return (DESCRIPTOR_VERSION, sorted(SHARES.items()))


class ClassicExtractor(BackboneExtractor):
    """Histograms of colour, where it lies, texture and edges, each square-rooted and scaled to its share.

    The square root turns the cosine into the Bhattacharyya coefficient of the histograms: a large plain background then
    doesn't drown all else (R. Arandjelović and A. Zisserman, "Three things everyone should know to
    improve object retrieval", 2012). ``input_size`` is the side of the pictures in pixels, 32 or more.

    Raises ValueError for a smaller ``input_size`` and for more ``dimensions`` than features. Needs nothing but NumPy.
    ``artifacts`` is not used.
    """

    name = "classic"

    def __init__(
        self,
        input_size: int = 160,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        if input_size < SMALLEST_PICTURE:
            raise ValueError(f"input_size must be {SMALLEST_PICTURE} pixels or more, not {input_size}.")
        self.input_size = input_size
        super().__init__(dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    def width(self) -> int:
        return DESCRIPTOR_WIDTH

    @property
    def identity(self) -> tuple[object, ...]:
        return identity()

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return describe(images)


def describe(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the blocks of pictures, uint8 ``(n, s, s, 3)``, in a row: float32 ``(n, DESCRIPTOR_WIDTH)``.

    They are of length 1, unless there are no edges.
    """
    parts = [_described(pictures[start : start + AT_ONCE]) for start in range(0, len(pictures), AT_ONCE)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _described(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = pictures @ LUMA
    histograms = colour_histograms(colours(pictures))
    fine = colour_bins(8, 14).total
    blocks = {
        "colour": histograms[:, :fine],
        "layout": histograms[:, fine:],
        "texture": binary_patterns(grey),
        "shape": edge_orientations(grey, 4, 8),
    }
    scaled = [
        block * (SHARES[name] / np.maximum(np.add.reduce(block, axis=1, keepdims=True), 1e-9))
        for name, block in blocks.items()
    ]
    return np.asarray(np.sqrt(np.concatenate(scaled, axis=1)), np.float32)
