"""The base of most extractors: a backbone makes features, a linear head projects them to the field's width."""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import images as image_module
from .base import ArtifactStore, Extractor, ExtractorSpec, digest, l2_normalise
from .heads import SEED, LinearHead, orthonormal


class BackboneExtractor(Extractor):
    """An extractor in two steps: ``features``, ``width`` numbers a picture, then a projection to ``dimensions``.

    Subclasses set ``name`` (what their keys begin with) and ``input_size`` before they call ``__init__`` here, which
    raises ValueError for more dimensions than features.
    """

    name: str
    input_size: int
    head: LinearHead | None = None
    """A learned head (see ``with_head``); None for ``projection``."""

    def __init__(
        self,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dimensions=dimensions, artifacts=artifacts, images=images)
        if dimensions is None and self.width is None:
            raise ValueError(f"{self.name} has an unknown number of features with these options: give dimensions=.")
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions must be 1 or more, not {dimensions}.")
        if self.width is not None:
            self._check_width(self.width)

    def _check_width(self, width: int) -> None:
        if (self.dimensions or width) > width:
            raise ValueError(
                f"{self.name} gives {width} features a picture, fewer than the field's {self.dimensions} dimensions: "
                f"set dimensions to {width} or less, or choose an extractor with more features."
            )

    @property
    @abstractmethod
    def width(self) -> int | None:
        """Number of features of a picture, or None if only the loaded backbone knows."""

    @property
    @abstractmethod
    def identity(self) -> tuple[object, ...]:
        """Everything that the features depend on, apart from the preparation of pictures."""

    @property
    def beside(self) -> tuple[object, ...]:
        """Everything that features beside the backbone's depend on."""
        return ()

    @abstractmethod
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of ``images``, uint8 ``(n, s, s, 3)``: float32 ``(n, width)``, not normalised."""

    @functools.cached_property
    def features_key(self) -> str:
        """The name of the space of ``features``, one for fields with the same backbone and preparation of pictures."""
        prepared = self.input_size, self.image_options, image_module.VERSION
        return f"{self.name}-{digest(*self.identity, *self.beside, *prepared)}"

    @property
    def projection_identity(self) -> object:
        """Everything that ``projection`` depends on."""
        return SEED

    def projection(self, width: int, dimensions: int) -> LinearHead:
        """Return the projection that is used until a head is learned: random directions."""
        return orthonormal(width, dimensions)

    def with_head(self, head: LinearHead) -> Self:
        """Return this extractor with a learned head instead of its ``projection``; both share the loaded backbone.

        Raises ValueError if the head doesn't take these features or doesn't give the field's width.
        """
        if self.width is not None and head.features != self.width:
            raise ValueError(f"{self.name} gives {self.width} features a picture, but the head takes {head.features}.")
        if self.dimensions is not None and head.dimensions != self.dimensions:
            raise ValueError(f"The head gives {head.dimensions} dimensions, not the field's {self.dimensions}.")
        other = copy.copy(self)
        other.head, other.dimensions = head, head.dimensions
        other.__dict__.pop("spec", None)  # the copy of this one's
        return other

    @functools.cached_property
    def spec(self) -> ExtractorSpec:  # type: ignore[override]
        dimensions = self.dimensions or self.width
        assert dimensions is not None  # __init__ refuses anything else
        head = self.projection_identity if self.head is None else self.head.digest
        return ExtractorSpec(
            key=f"{self.name}-{dimensions}-{digest(self.features_key, dimensions, head)}",
            dimensions=dimensions,
            input_size=self.input_size,
            images=self.image_options,
        )

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = self.input_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"{self.name} takes uint8 (n, {size}, {size}, 3), not {images.dtype} {images.shape}.")
        dimensions = self.spec.dimensions
        if len(images) == 0:
            return np.empty((0, dimensions), np.float32)
        return self.project(self.kept_features(images))

    def kept_features(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return ``features`` in half precision, ``(n, width)``: kept ones then give the same vectors as new ones."""
        largest = np.finfo(np.float16).max
        return np.clip(self.features(images), -largest, largest).astype(np.float16)

    def project(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return the vectors of ``kept_features``, ``(n, width)``: of unit length, float32 ``(n, dimensions)``."""
        dimensions, width = self.spec.dimensions, features.shape[1]
        self._check_width(width)
        full = features.astype(np.float32)
        if self.head is not None:
            return l2_normalise(self.head(full))
        # With as many dimensions as features, a projection would turn the space and change no cosine.
        return l2_normalise(full if dimensions == width else self.projection(width, dimensions)(full))
