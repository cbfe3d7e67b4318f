"""What a search is about, as a vector in every space that it has to ask."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import images
from ..extractors import Extractor, ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..spaces import features
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space
from ..spaces.serving import serving
from .nearest import Query

logger = logging.getLogger("django_visual_search")

Crop = tuple[float, float, float, float]


class Photo:
    """A photo that is searched by; decoded once, and its features made once, for spaces that share them."""

    def __init__(self, field: EmbeddingField, file: bytes | BinaryIO, crop: Crop | None) -> None:
        self.field = field
        self.file = file
        self.crop = crop
        self._pixels: dict[Any, NDArray[np.uint8]] = {}
        self._features: dict[str, NDArray[np.float16]] = {}

    def query(self, *, anew: bool = False) -> Query:
        """In the space that vectors are made in; raises ImageRefused and ExtractorUnavailable once that is known."""
        return Query(later=self._wanted)

    def _wanted(self) -> Query:
        known = serving(self.field)
        if known.also is None:
            return self._in(extractor_of_space(self.field, known.wanted))
        if not isinstance(self.file, bytes):
            # It may have to be decoded twice. One byte more than is accepted, so that it is refused for that.
            self.file = self.file.read(extractor_of(self.field).spec.images.max_bytes + 1)
        try:
            return self._in(extractor_of_space(self.field, known.wanted))
        except ExtractorUnavailable as e:
            _log(self.field, e)
            return self._in(extractor_of_space(self.field, known.also))

    def moved(self, key: str) -> bool:
        """Whether it has to be asked anew, which is not so: it was embedded just now."""
        return False

    def others(self, key: str) -> Iterator[Query]:
        """In the other live spaces; those whose extractor can't run here are logged and left out."""
        for extractor in _others(self.field, key):
            try:
                yield self._in(extractor)
            except ExtractorUnavailable as e:
                _log(self.field, e)

    def _in(self, extractor: Extractor) -> Query:
        spec = extractor.spec
        how = (spec.images, spec.input_size)
        if how not in self._pixels:
            picture = images.load(self.file, options=spec.images, crop=self.crop, size=spec.input_size)
            self._pixels[how] = np.asarray(picture)[None]
        if not isinstance(extractor, BackboneExtractor):
            return Query(extractor(self._pixels[how])[0], spec.key)
        if extractor.features_key not in self._features:
            self._features[extractor.features_key] = extractor.kept_features(self._pixels[how])
        return Query(extractor.project(self._features[extractor.features_key])[0], spec.key)


class Stored:
    """A picture that has a vector, in one space; ``rows``: rows of the field's model, of which the first counts.

    ``owner``: as that of ``nearest.Query``.
    """

    def __init__(self, field: EmbeddingField, rows: Any, known: Query | None, owner: Any = None) -> None:
        self.field = field
        self.rows = rows
        self.known = known
        self.owner = owner

    def query(self, *, anew: bool = False) -> Query:
        """In the space that its vector is in; ``anew``: as it is now, rather than when the product was read."""
        if self.known and not anew:
            return replace(self.known, owner=self.owner)
        return Query(stored=self.rows.values_list(self.field.name, self.field.key_name)[:1], owner=self.owner)

    def moved(self, key: str) -> bool:
        """Whether its vector is of another space now than this one, which it was of when the product was read."""
        keys = self.rows.values_list(self.field.key_name, flat=True)[:1] if self.known else ()
        return any(full_key.partition(":")[0] != key for full_key in keys)

    def others(self, key: str) -> Iterator[Query]:
        """In the other live spaces: from kept features, or from the picture itself.

        Where neither can be had that is logged, and only the space of its vector is asked.
        """
        extractors = list(_others(self.field, key))
        if not extractors:
            return
        target = f"{self.field.link.name}__pk" if self.field.link else "pk"
        for object_id, full_key in self.rows.values_list(target, self.field.key_name)[:1]:
            image = full_key.partition(":")[2]
            for extractor in extractors:
                try:
                    yield Query(self._vector(extractor, str(object_id), image), extractor.spec.key)
                except (ExtractorUnavailable, images.ImageRefused, OSError) as e:
                    _log(self.field, e)

    def _vector(self, extractor: Extractor, object_id: str, image: str) -> Any:
        if isinstance(extractor, BackboneExtractor):
            kept = features.read(self.field, extractor.features_key, [(object_id, image)])
            if object_id in kept:
                return extractor.project(kept[object_id][None])[0]
        spec = extractor.spec
        with self.field.image_field.storage.open(image, "rb") as file:
            picture = images.load(file, options=spec.images, size=spec.input_size)
        return extractor(np.asarray(picture)[None])[0]


def _others(field: EmbeddingField, key: str) -> Iterator[Extractor]:
    """The extractors of the live spaces but the one with this key; none if that one isn't live itself."""
    known = serving(field)
    if known.also is None:
        return
    found = []
    for space in known.live:
        try:
            found.append(extractor_of_space(field, space))
        except ExtractorUnavailable as e:
            _log(field, e)
    keys = [extractor.spec.key for extractor in found]
    if key in keys:
        yield from (extractor for extractor in found if extractor.spec.key != key)


def _log(field: EmbeddingField, error: Exception) -> None:
    logger.warning("visual search: %s: one of two vector spaces is not searched: %s", field.label, error)
