"""A small real extractor: mean colours over a grid. Backends of a shop's own look like this."""

from __future__ import annotations

import numpy as np

from django_visual_search.extractors import Extractor, ExtractorSpec
from django_visual_search.extractors.backbone import BackboneExtractor
from django_visual_search.extractors.base import digest, l2_normalise

GRID = 4


class ColourExtractor(Extractor):
    def __init__(self, *, version=1, **kwargs):
        super().__init__(**kwargs)
        self.version = version

    @property
    def spec(self):
        return ExtractorSpec(
            key=f"colour-{digest(self.version, self.image_options, self.dimensions)}",
            dimensions=3 * GRID**2,
            input_size=32,
            images=self.image_options,
        )

    def __call__(self, images):
        cells = images.astype(np.float32).reshape(len(images), GRID, 32 // GRID, GRID, 32 // GRID, 3)
        return l2_normalise(cells.mean(axis=(2, 4)).reshape(len(images), -1) - 100 + self.version)


class ColourBackbone(BackboneExtractor):
    """Features that heads can be learned for: mean colours over a finer grid. ``shift``: another backbone."""

    name = "colours"
    input_size = 32
    cells = 8

    def __init__(self, *, shift=0, **kwargs):
        self.shift = shift
        super().__init__(**kwargs)

    @property
    def width(self):
        return 3 * self.cells**2

    @property
    def identity(self):
        return (self.shift,)

    def features(self, images):
        side = self.input_size // self.cells
        cells = images.astype(np.float32).reshape(len(images), self.cells, side, self.cells, side, 3)
        return cells.mean(axis=(2, 4)).reshape(len(images), -1) - 100 + self.shift
