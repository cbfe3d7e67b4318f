"""Means and covariances of pictures by their labels, computed once for heads of any settings."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import AT_ONCE, Floats, Labels, class_means, groupings, scatter
from .requirements import require

ALIKE = 1e-12
"""Of the mean square of the features: a variance below that is rounding."""

NOTHING_WITHIN = 1e-10
"""Of the variance of all pictures: where pictures of one class differ by less, they are copies of each other."""


class Moments:
    """What a head is made of. ``features``: ``(n, f)``; ``labels``: see ``lda.learn``, which says what is raised."""

    def __init__(self, features: NDArray[np.floating[Any]], labels: Labels) -> None:
        features = np.asarray(features)
        if features.ndim != 2 or 0 in features.shape:
            raise ValueError(f"Features are (pictures, features), not of shape {features.shape}.")
        if not np.isfinite(features).all():
            raise ValueError("Features must be finite numbers.")
        self.groups = groupings(labels, len(features))
        self.mean: Floats = features.mean(axis=0, dtype=np.float64)
        self._features = features
        self._by_label: dict[int, Floats] = {}
        self._last: tuple[tuple[float, ...], tuple[Floats, Floats]] | None = None
        self.variance = self._variance()
        if not self.variance > ALIKE * float(self.mean @ self.mean):
            raise ValueError("All pictures have the same features: there is nothing to learn from them.")

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.mean)

    def _variance(self) -> float:
        """Mean squared distance of the pictures from their mean."""
        total = 0.0
        for start in range(0, len(self._features), AT_ONCE):
            total += float(np.square(self._features[start : start + AT_ONCE] - self.mean).sum())
        return total / len(self._features)

    @functools.cached_property
    def total(self) -> Floats:
        """Covariance of all pictures, ``(f, f)``."""
        return scatter(self._features, self.mean, np.arange(len(self._features))) / len(self._features)

    @functools.cached_property
    def means(self) -> list[Floats]:
        """Class means of each label, less the mean of all pictures: ``(classes, f)`` each."""
        return [class_means(self._features, group) - self.mean for group in self.groups]

    def within(self, weights: tuple[float, ...]) -> tuple[Floats, Floats]:
        """Variances (ascending) and axes of the covariance within classes, of all labels by their weights.

        Labels none of whose classes has two pictures say nothing and are left out. All are 0 where pictures of a class
        are copies of each other. The last answer is remembered.
        """
        if self._last is not None and self._last[0] == weights:
            return self._last[1]
        told = [weight if group.spare else 0.0 for group, weight in zip(self.groups, weights, strict=True)]
        pooled = np.zeros((self.width, self.width))
        for i, weight in enumerate(told):
            if weight:
                pooled += weight / sum(told) * self._within(i)
        values, axes = np.linalg.eigh(pooled)
        there = values[-1] > NOTHING_WITHIN * self.variance
        self._last = weights, (np.maximum(values, 0) if there else np.zeros(self.width), axes)
        return self._last[1]

    def _within(self, i: int) -> Floats:
        """Covariance within the classes of label ``i``."""
        if i not in self._by_label:
            group, means = self.groups[i], self.means[i]
            rows = np.flatnonzero(group.classes >= 0)
            self._by_label[i] = scatter(self._features, means[group.classes[rows]] + self.mean, rows) / group.spare
        return self._by_label[i]

    def between(self, whiten: Floats, weights: tuple[float, ...]) -> tuple[Floats, Floats]:
        """Variances of the class means along the axes ``whiten``, ``(f, a)``, largest first, and the turn to them.

        Returns ``(k,)`` and ``(a, k)`` without the directions in which the means hardly differ; k may be 0.
        """
        parts = []
        for group, means, weight in zip(self.groups, self.means, weights, strict=True):
            labelled = int(group.counts.sum())
            if weight > 0 and len(group.counts) > 1:
                centred = means - group.counts @ means / labelled
                parts.append((centred @ whiten) * np.sqrt(weight * group.counts / labelled)[:, None])
        rows = np.concatenate(parts)
        wide = rows.shape[1] > len(rows)
        # By the smaller of the two products, which have the same eigenvalues.
        values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
        values, vectors = values[::-1], vectors[:, ::-1]
        there = values > max(0.0, 1e-10 * float(values[0]))
        values, vectors = values[there], vectors[:, there]
        return values, (rows.T @ vectors) / np.sqrt(values) if wide else vectors

    def ledoit_wolf(self, weights: tuple[float, ...]) -> float:
        """How far to shrink the covariance within classes for the best estimate of it (O. Ledoit and M. Wolf, "A
        well-conditioned estimator for large-dimensional covariance matrices", 2004)."""
        require()
        from sklearn.covariance import ledoit_wolf_shrinkage

        found = []
        for group, means, weight in zip(self.groups, self.means, weights, strict=True):
            if weight > 0 and group.spare:
                rows = np.flatnonzero(group.classes >= 0)
                centred = self._features[rows] - self.mean - means[group.classes[rows]]
                found.append((weight, float(ledoit_wolf_shrinkage(centred, assume_centered=True))))
        return sum(weight * value for weight, value in found) / sum(weight for weight, _ in found)
