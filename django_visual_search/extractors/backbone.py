"""Which parts of a picture a network looks at: a picture is found by the mean of its features over several views.

The usual name is test-time augmentation (A. Krizhevsky et al., "ImageNet classification with deep convolutional neural
networks", 2012: crops and their mirror images). Customers hold what they photograph into the middle, so that a view of
the middle leaves out much of the background and shows the thing larger; the whole picture keeps what fills it.

What the extractors here share: a backbone makes features, a linear head brings them to the field's width.
"""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import images as image_module
from .base import ArtifactStore, Extractor, ExtractorSpec, digest, l2_normalise
from .heads import SEED, LinearHead, orthonormal

WHOLE = ("whole",)

VIEWS = ("whole", "whole-mirrored", "centre", "centre-mirrored")

CENTRE = 0.7
"""Of a picture's side that is seen of it in the middle. Of 1, 0.875, 0.8 and 0.7 the best on grocery photos."""


def check_views(views: Iterable[str]) -> tuple[str, ...]:
    """The views without repetitions, in the order of VIEWS; ValueError for others and for none."""
    wanted = {views} if isinstance(views, str) else set(views)
    if not wanted or wanted - set(VIEWS):
        raise ValueError(
            f"views must be one or more of {', '.join(VIEWS)}, not {', '.join(map(str, wanted)) or 'none'}."
        )
    return tuple(view for view in VIEWS if view in wanted)


def picture_size(input_size: int, views: Iterable[str]) -> int:
    """Side in pixels of a picture of which each of the views is ``input_size`` pixels wide, or more."""
    return round(input_size / CENTRE) if any(view.startswith("centre") for view in views) else input_size


class BackboneExtractor(Extractor):
    """An extractor in two steps: ``features``, ``width`` numbers a picture, then a seeded projection to ``dimensions``.

    Subclasses set ``name`` (what their keys begin with) and ``input_size`` before they call ``__init__`` here, which
    raises ValueError if the field wants more dimensions than there are features.
    """

    name: str
    input_size: int
    head: LinearHead | None = None
    """A learned head (see ``with_head``); None for the seeded projection."""

    def __init__(
        self,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dimensions=dimensions, artifacts=artifacts, images=images)
        if dimensions is None and self.width is None:
            raise ValueError(f"How many features {self.name} gives with these options is not known: say dimensions=.")
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions must be 1 or more, not {dimensions}.")
        if self.width is not None:
            self._check_width(self.width)

    def _check_width(self, width: int) -> None:
        if (self.dimensions or width) > width:
            raise ValueError(
                f"{self.name} gives {width} features a picture, fewer than the {self.dimensions} dimensions asked for: "
                f"set dimensions to {width} or less, or choose an extractor with more features."
            )

    @property
    @abstractmethod
    def width(self) -> int | None:
        """How many features a picture gives, or None where only the loaded backbone knows."""

    @property
    @abstractmethod
    def identity(self) -> tuple[object, ...]:
        """Everything that the features depend on, apart from how pictures are prepared."""

    @abstractmethod
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of ``images``, uint8 ``(n, s, s, 3)``: float32 ``(n, width)``, neither projected nor normalised."""

    @functools.cached_property
    def features_key(self) -> str:
        """Names the space of ``features``: the same for all fields that share a backbone and prepare pictures alike."""
        return f"{self.name}-{digest(*self.identity, self.input_size, self.image_options, image_module.VERSION)}"

    def with_head(self, head: LinearHead) -> Self:
        """This extractor with a learned head instead of its projection; what is loaded is shared.

        Raises ValueError if the head doesn't take these features or doesn't give the field's width.
        """
        if self.width is not None and head.features != self.width:
            raise ValueError(f"{self.name} gives {self.width} features a picture, but the head takes {head.features}.")
        if self.dimensions is not None and head.dimensions != self.dimensions:
            raise ValueError(f"The head gives {head.dimensions} dimensions, not the {self.dimensions} asked for.")
        other = copy.copy(self)
        other.head, other.dimensions = head, head.dimensions
        other.__dict__.pop("spec", None)  # the copy of this one's
        return other

    @functools.cached_property
    def spec(self) -> ExtractorSpec:  # type: ignore[override]
        dimensions = self.dimensions or self.width
        assert dimensions is not None  # __init__ refuses anything else
        head: object = SEED if self.head is None else self.head.digest
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
        """``features`` in half precision, ``(n, width)``: vectors made from kept features are the same as new ones."""
        largest = np.finfo(np.float16).max
        return np.clip(self.features(images), -largest, largest).astype(np.float16)

    def project(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """From ``kept_features``, ``(n, width)``, to vectors of unit length, float32 ``(n, dimensions)``."""
        dimensions, width = self.spec.dimensions, features.shape[1]
        self._check_width(width)
        full = features.astype(np.float32)
        if self.head is not None:
            return l2_normalise(self.head(full))
        # As many dimensions as features: turning the space would change no cosine.
        return l2_normalise(full if dimensions == width else orthonormal(width, dimensions)(full))
