"""The decoded pictures of a catalogue in one file, for what looks at each of them many times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from .features import AT_ONCE, Show, View, pixels
from .supervision import Supervision


class PixelFile:
    """Pictures of a Supervision, uint8 ``(n, s, s, 3)`` in a ``.npy`` file; one that can't be read now is black."""

    def __init__(self, path: Path, field: EmbeddingField, extractor: BackboneExtractor, given: Supervision) -> None:
        self.path = path
        self.field = field
        self.given = given
        self.rows = np.flatnonzero(given.view < 0)
        """Rows of the Supervision that are pictures; those of the file are as many, in that order."""
        self.size = extractor.spec.input_size
        self._places = {int(given.pictures[row]): i for i, row in enumerate(self.rows)}

    def write(self, extractor: BackboneExtractor, show: Show) -> None:
        """Decode all pictures into the file."""
        shape = (len(self.rows), self.size, self.size, 3)
        file = np.lib.format.open_memmap(self.path, mode="w+", dtype=np.uint8, shape=shape)
        wanted = self.given.pictures[self.rows].tolist()
        for done, (row, picture) in enumerate(pixels(self.field, extractor.spec, self.given.catalogue, wanted), 1):
            file[self._places[row]] = 0 if isinstance(picture, str) else picture
            show(done, len(wanted))
        file.flush()

    def features(self, extractor: BackboneExtractor, show: Show) -> NDArray[np.float16]:
        """Features of all rows of the Supervision, views too, by another backbone: ``(n, width)``."""
        file = np.load(self.path, mmap_mode="r")
        found = []
        for start in range(0, len(self.given.view), AT_ONCE):
            some = [self._picture(file, row) for row in range(start, min(start + AT_ONCE, len(self.given.view)))]
            found.append(extractor.kept_features(np.stack(some)))
            show(start + len(some), len(self.given.view))
        return np.concatenate(found)

    def _picture(self, file: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
        number, picture = int(self.given.view[row]), int(self.given.pictures[row])
        plain = np.asarray(file[self._places[picture]])
        return plain if number < 0 else View(self.field, self.given.catalogue, number)(plain, picture)
