"""Labels of pictures as class numbers, and means and scatter of features by them.

Entry functions: ``grouping`` and ``groupings``. ``require`` and ``one_blas_thread`` are for functions that learn: these
need scikit-learn, which is optional.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import ExtractorUnavailable

Doubles = NDArray[np.float64]
Values = Sequence[Hashable] | NDArray[np.generic]
"""A label for each picture; None, "" and NaN mean that it has none."""

Labels = Mapping[str, Values]
"""One or several labels of the same pictures, by name."""

ROWS_AT_ONCE = 8192
"""Rows that are held in double precision at a time."""


@dataclass(frozen=True)
class Grouping:
    """One label of all pictures."""

    name: str
    classes: NDArray[np.intp]
    """``(n,)``: the number of each picture's class, -1 where it has none."""
    counts: NDArray[np.intp]
    """``(classes,)``: pictures in each."""
    values: tuple[Hashable, ...]
    """``(classes,)``: the label of each number, in order of first appearance."""

    @property
    def spare(self) -> int:
        """Pictures beyond the first of each class: only these show how pictures of one class differ."""
        return int(np.maximum(self.counts - 1, 0).sum())


def grouping(name: str, values: Values, pictures: int) -> Grouping:
    """Assign numbers to a label's values. Raises ValueError if there aren't as many as ``pictures``."""
    if len(values) != pictures:
        raise ValueError(f"There are {len(values)} labels {name!r} for {pictures} pictures.")
    numbers: dict[Hashable, int] = {}
    classes = np.full(pictures, -1, np.intp)
    for i, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        if value is not None and value != "" and value == value:
            classes[i] = numbers.setdefault(value, len(numbers))
    return Grouping(name, classes, np.bincount(classes[classes >= 0], minlength=len(numbers)), tuple(numbers))


def groupings(labels: Labels, pictures: int) -> list[Grouping]:
    """Assign numbers to all labels, in the order given. Raises ValueError if there are none or their lengths differ."""
    if not labels:
        raise ValueError("No labels were given: there is nothing to learn from.")
    return [grouping(name, values, pictures) for name, values in labels.items()]


def class_means(features: NDArray[np.floating], group: Grouping, at_once: int = ROWS_AT_ONCE) -> Doubles:
    """Return the mean features of each class, ``(classes, f)``."""
    order = np.argsort(group.classes, kind="stable")
    order = order[np.searchsorted(group.classes[order], 0) :]
    sums = np.zeros((len(group.counts), features.shape[1]))
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        classes = group.classes[rows]
        firsts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])
        sums[classes[firsts]] += np.add.reduceat(features[rows].astype(np.float64), firsts, axis=0)
    return np.asarray(sums / group.counts[:, None])


def scatter(
    features: NDArray[np.floating], around: Doubles, rows: NDArray[np.intp], at_once: int = ROWS_AT_ONCE
) -> Doubles:
    """Sum the outer products of ``features[rows] - around``, ``(f, f)``; ``around``: ``(f,)`` or ``(rows, f)``."""
    total = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        centre = around if around.ndim == 1 else around[start : start + at_once]
        centred = features[part].astype(np.float64) - centre
        total += centred.T @ centred
    return total


INSTALL_SCIKIT_LEARN = (
    "Learning from the catalogue needs scikit-learn, which is not installed here: "
    "pip install 'django-visual-search[training]'. Searching with learned heads doesn't need it."
)


def missing_scikit_learn() -> str | None:
    """Return what to install before anything can be learned here, or None. Imports nothing."""
    return None if find_spec("sklearn") else INSTALL_SCIKIT_LEARN


def require() -> None:
    """Raise ExtractorUnavailable where scikit-learn is missing."""
    if problem := missing_scikit_learn():
        raise ExtractorUnavailable(problem)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep linear algebra on one core: where other processes keep the cores busy, its threads spin on each other.

    Measured on two busy cores, a head of 1,280 features took 16 s of processor time with two threads, 2 s with one.
    """
    require()
    import scipy.linalg  # noqa: F401  # has a library of its own, and only those that are loaded are limited
    from threadpoolctl import threadpool_limits  # scikit-learn depends on it

    with threadpool_limits(limits=1, user_api="blas"):
        yield
