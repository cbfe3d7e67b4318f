"""A picture's looks beside a network's features: the network says sneaker, the descriptor says coral.

Entry class: ``NetworkExtractor``, the base of all extractors that are networks. Its features are the network's, scaled
to length 1, followed by those of ``classic`` less their usual mean, scaled to the length of a weight.
"""

from __future__ import annotations

import functools
import os
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import classic
from .backbone import BackboneExtractor
from .base import ArtifactStore, l2_normalise
from .heads import LinearHead, orthonormal

LOOKS = 0.42
"""Weight of the descriptor beside a network unless an option says otherwise: see docs/howto/extractors.md."""

SHARE = 3 / 16
"""Share of a field's dimensions that the descriptor gets before a head is learned; the network gets the others."""

SMALLEST_LOOKS = 48
"""Least side in pixels to which a picture is reduced for the descriptor, which finds as much on few pixels."""

BASES = Path(__file__).parent / "bases"
BASES_VERSION = 1
"""Raised whenever a network's file of BASES changes; part of keys."""

LOOKS_VERSION = 2
"""Raised whenever the looks of the same pixels change, as by ``classic.npz`` of BASES; part of keys with looks."""


class NetworkExtractor(BackboneExtractor):
    """A backbone that is a network. ``looks``: weight of the classic descriptor beside it; 0 leaves it out.

    Raises ValueError for a negative weight, and as ``BackboneExtractor`` does.
    """

    basis: str | None = None
    """Name of a file of BASES with the network's principal directions; None for random ones."""

    def __init__(
        self,
        *,
        looks: float,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= looks < np.inf:
            raise ValueError(f"looks must be a number of at least 0, not {looks!r}.")
        self.looks = float(looks)
        super().__init__(dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    @abstractmethod
    def network_width(self) -> int | None:
        """Number of the network's features, or None if only the loaded one knows."""

    @abstractmethod
    def network_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's features of ``images``, uint8 ``(n, s, s, 3)``: float32 ``(n, network_width)``."""

    @property
    def width(self) -> int | None:
        return self.network_width and self.network_width + (classic.DESCRIPTOR_WIDTH if self.looks else 0)

    @property
    def beside(self) -> tuple[object, ...]:
        return (self.looks, LOOKS_VERSION, classic.identity()) if self.looks else ()

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not self.looks:
            return self.network_features(images)
        # Meanwhile, as the network's threads run without the GIL.
        looks = _helper(os.getpid()).submit(looks_of, images)
        seen = l2_normalise(self.network_features(images))
        return np.concatenate([seen, np.float32(self.looks) * looks.result()], axis=1)

    @property
    def projection_identity(self) -> object:
        seed = super().projection_identity
        return (seed, BASES_VERSION, self.basis) if self.looks or self.basis else seed

    def projection(self, width: int, dimensions: int) -> LinearHead:
        described = classic.DESCRIPTOR_WIDTH if self.looks else 0
        own = round(dimensions * SHARE) if described else 0
        return _projection(self.basis, width - described, dimensions - own, described, own)


@functools.cache
def _helper(process: int) -> ThreadPoolExecutor:
    """Return a process's thread for looks, as a forked one has none: starting one takes half a millisecond."""
    return ThreadPoolExecutor(1, thread_name_prefix="visual-search-looks")


def looks_of(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the looks of pictures, uint8 ``(n, s, s, 3)``: float32 ``(n, classic.DESCRIPTOR_WIDTH)`` of length 1.

    Descriptors less their usual mean: three fifths of a catalogue picture's descriptor, by squares, are common to all
    pictures, such as a pale ground, and say nothing about the product.
    """
    return l2_normalise(classic.describe(reduced(pictures)) - _centre())


def descriptors_of(looks: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the descriptors of looks of any length but 0, both ``(n, classic.DESCRIPTOR_WIDTH)``.

    The inverse of ``looks_of``. A descriptor has length 1, which determines its length less the mean. Near-duplicates
    are recognised by descriptors: looks of two photos of a shelf have a lower cosine, and fewer were found (993 scenes
    of 2,640 photos, not 649).
    """
    unit, centre = l2_normalise(np.asarray(looks, np.float32)), _centre()
    along = unit @ centre
    length = np.sqrt(np.square(along) + 1 - centre @ centre) - along
    return np.asarray(length[:, None] * unit + centre, np.float32)


@functools.cache
def _centre() -> NDArray[np.float32]:
    """Return the mean descriptor of drawn catalogue pictures, ``(classic.DESCRIPTOR_WIDTH,)``."""
    with np.load(BASES / "classic.npz") as file:
        return np.asarray(file["mean"], np.float32)


def reduced(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pictures scaled down to means of squares of pixels, to a side of at least SMALLEST_LOOKS.

    ``pictures`` is uint8 ``(n, s, s, 3)``.
    """
    count, side = pictures.shape[:2]
    factor = side // SMALLEST_LOOKS
    if factor < 2:
        return pictures
    if side % factor or factor not in (
        2,
        4,
        8,
        16,
    ):  # others' means Pillow rounds otherwise; larger sums need more bits
        return np.stack([np.asarray(Image.fromarray(picture).reduce(factor)) for picture in pictures])
    # The same means in half of Pillow's time.
    rows = pictures.reshape(count, side // factor, factor, -1).sum(axis=2, dtype=np.uint16)
    last = rows.shape[2] - 3 * (factor - 1)
    sums = sum(rows[:, :, 3 * i : 3 * i + last] for i in range(factor))  # of a pixel and those to its right
    squares = np.stack([sums[:, :, channel :: 3 * factor] for channel in range(3)], axis=-1)
    return ((squares + np.uint16(factor**2 // 2)) // np.uint16(factor**2)).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _projection(basis: str | None, width: int, dimensions: int, described: int, own: int) -> LinearHead:
    """Return a projection of ``width`` features of a network to ``dimensions``, and ``described`` others to ``own``."""
    matrix = np.zeros((width + described, dimensions + own), np.float32)
    matrix[:width, :dimensions] = _directions(basis, width, dimensions)
    if own:
        if basis is None:  # random directions lose length, which principal ones, as the descriptor's are, hardly do
            matrix *= np.float32(np.sqrt(width / dimensions))
        matrix[width:, dimensions:] = _directions("classic", described, own)
    return LinearHead(matrix)


def _directions(basis: str | None, width: int, dimensions: int) -> NDArray[np.float32]:
    """Return ``dimensions`` directions, those of a basis and random ones after them: ``(width, dimensions)``."""
    if dimensions == width:
        return np.eye(width, dtype=np.float32)
    random = orthonormal(width, dimensions).matrix
    if basis is None:
        return random
    with np.load(BASES / f"{basis}.npz") as file:
        known = (file["directions"] * file["scale"])[:, :dimensions].astype(np.float32)
    return np.concatenate([known, random[:, known.shape[1] :]], axis=1)
