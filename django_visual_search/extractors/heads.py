"""Linear heads: from a backbone's features to the width that a field keeps."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 0
"""Seed of the projection that is used until a head is learned; part of every extractor key."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """``(features - mean) @ matrix``. L2 normalisation comes after it and is not part of it.

    ``matrix`` is float32 ``(features, dimensions)``; ``mean`` is float32 ``(features,)`` or None for no centring. The
    arrays are copied and made read-only. Raises ValueError if their shapes don't fit or a value isn't finite.
    """

    matrix: NDArray[np.float32]
    mean: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in ("matrix", "mean"):
            value = getattr(self, name)
            if value is not None:
                value = np.array(value, dtype="<f4", order="C")
                value.setflags(write=False)
                object.__setattr__(self, name, value)
        if self.matrix.ndim != 2 or 0 in self.matrix.shape:
            raise ValueError(f"A head's matrix is (features, dimensions), not of shape {self.matrix.shape}.")
        if self.mean is not None and self.mean.shape != (self.features,):
            raise ValueError(f"A head's mean must have shape ({self.features},), not {self.mean.shape}.")
        if not all(np.isfinite(value).all() for value in (self.matrix, self.mean) if value is not None):
            raise ValueError("A head must be made of finite numbers.")

    @property
    def features(self) -> int:
        """Width of the features."""
        return int(self.matrix.shape[0])

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return int(self.matrix.shape[1])

    @functools.cached_property
    def digest(self) -> str:
        """The hex sha256 over shape and values: the identity of a learned head, for an extractor key."""
        parts = hashlib.sha256(f"{self.matrix.shape} {self.mean is not None}".encode())
        parts.update(self.matrix.tobytes())
        if self.mean is not None:
            parts.update(self.mean.tobytes())
        return parts.hexdigest()

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project float32 ``(n, features)`` to float32 ``(n, dimensions)``. Raises ValueError for another width."""
        if features.ndim != 2 or features.shape[1] != self.features:
            raise ValueError(
                f"This head takes rows of {self.features} features, not an array of shape {features.shape}."
            )
        centred = features if self.mean is None else features - self.mean
        # Not @: BLAS wakes threads for it, which stall for milliseconds while other processes keep the cores busy. One
        # product after another is also the same to the last bit for one picture and for a batch.
        return np.asarray(np.vecdot(centred[:, None], self._columns[None]), dtype=np.float32)

    @functools.cached_property
    def _columns(self) -> NDArray[np.float32]:
        """The matrix, each column in one piece: twice as fast as row by row."""
        return np.ascontiguousarray(self.matrix.T)


@functools.lru_cache(maxsize=16)
def orthonormal(features: int, dimensions: int, seed: int = SEED) -> LinearHead:
    """Return a projection onto ``dimensions`` random orthonormal directions, for when nothing has been learned yet.

    Keeps distances to within about ``sqrt(1 / dimensions)`` with no look at the data (W. B. Johnson and
    J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984). The directions are the Q factor of
    a Gaussian matrix, which makes every subspace equally likely (F. Mezzadri, "How to generate random matrices from the
    classical compact groups", 2007).

    The same on every machine to float32 rounding: NumPy freezes the stream of ``RandomState`` (NEP 19), and a QR
    factorisation with a positive diagonal of R is unique, whichever LAPACK computes it.

    Raises ValueError if there are fewer features than dimensions.
    """
    if not 0 < dimensions <= features:
        raise ValueError(f"{features} features can't be projected to {dimensions} dimensions.")
    gaussian = np.random.RandomState(seed).standard_normal((features, dimensions))
    q, r = np.linalg.qr(gaussian)
    return LinearHead(q * np.sign(np.diagonal(r)))
