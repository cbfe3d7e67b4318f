"""Colour, texture and shape without a network: no weights, no download, no TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import descriptors
from .backbone import BackboneExtractor
from .base import ArtifactStore

VERSION = 1
"""Raised whenever the same pixels give other features; part of every key."""

SHARES = {"colour": 0.50, "layout": 0.12, "texture": 0.25, "shape": 0.13}
"""What each block contributes to the cosine of two pictures. Colour to texture as found best on the grocery photos with
even labels; those hardly reward layout and shape, which are there for shops whose kinds differ by them."""

WIDTH = 1201
"""Features a picture: 456 + 440 + 177 + 128 in that order."""

SMALLEST = 32


class ClassicExtractor(BackboneExtractor):
    """Histograms of colour, where it lies, texture and edges, each square-rooted and scaled to its share.

    The square root turns the cosine into the Bhattacharyya coefficient of the histograms, so that a large plain
    background does not drown everything else (R. Arandjelović and A. Zisserman, "Three things everyone should know to
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
        if input_size < SMALLEST:
            raise ValueError(f"input_size must be {SMALLEST} pixels or more, not {input_size}.")
        self.input_size = input_size
        super().__init__(dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    def width(self) -> int:
        return WIDTH

    @property
    def identity(self) -> tuple[object, ...]:
        return (VERSION, sorted(SHARES.items()))

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([_describe(picture) for picture in images])


def _describe(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The blocks of a picture, uint8 ``(s, s, 3)``, in a row, of length 1 altogether unless there are no edges."""
    colour = descriptors.colours(picture)
    grey = picture @ descriptors.LUMA
    blocks = {
        "colour": descriptors.colour_histogram(colour, 1, descriptors.colour_bins(8, 14)),
        "layout": descriptors.colour_histogram(colour, 2, descriptors.colour_bins(4, 28)),
        "texture": descriptors.binary_patterns(grey),
        "shape": descriptors.edge_orientations(grey, 4, 8),
    }
    return np.concatenate(
        [np.sqrt(block * (SHARES[name] / max(float(block.sum()), 1e-9))) for name, block in blocks.items()]
    )
