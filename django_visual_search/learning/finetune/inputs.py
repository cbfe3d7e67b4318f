"""Pictures, splits and labels as they are given to a fine-tuning, made into arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..labels import Values, grouping
from ..splits import Indices, Split

Pictures = NDArray[np.uint8] | str | os.PathLike[str]

MOST_CLASSES = 20_000
"""Of a label: a proxy each, of as many numbers as features, is kept three times in memory and moved at every step."""


def opened(pictures: Pictures) -> tuple[NDArray[np.uint8], Path | None]:
    """The pictures, and the file that they were given as."""
    if isinstance(pictures, np.ndarray):
        return pictures, None
    path = Path(pictures).absolute()
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), path
    except (OSError, ValueError) as e:
        raise ValueError(f"{path} is not an array of pictures in npy format ({e}).") from e


def rows_of(split: Split | None, count: int) -> tuple[Indices, Indices]:
    """Rows to learn from and held-out ones, ascending."""
    if split is None:
        return np.arange(count), np.empty(0, np.intp)
    train, held = np.unique(split.train), np.unique(split.held_out)
    both = np.concatenate([train, held])
    if not len(train) or not len(held):
        raise ValueError("A split needs pictures to learn from and held-out ones.")
    if len(np.intersect1d(train, held)):
        raise ValueError("Some pictures are both learned from and held out.")
    if both.min() < 0 or both.max() >= count:
        raise ValueError(f"The split names pictures beyond the {count} that there are.")
    return train, held


def below_zero(values: Values) -> NDArray[np.bool_]:
    """Labels below 0 mean that a picture has none, as in many data sets."""
    return np.array([isinstance(value, int | np.integer) and value < 0 for value in values], bool)


def learned(name: str, values: Values, count: int, train: Indices) -> tuple[NDArray[np.int32], int, int]:
    """The class of each picture to learn from, numbered from 0, -1 for all others; how many classes there are; and how
    many were left out."""
    known = grouping(name, values, count).classes.copy()
    known[below_zero(values)] = -1
    own = np.full(count, -1, np.int32)
    named = train[known[train] >= 0]
    numbers, places, pictures = np.unique(known[named], return_inverse=True, return_counts=True)
    rank = np.empty(len(numbers), np.int32)
    rank[np.argsort(-pictures, kind="stable")] = np.arange(len(numbers))
    own[named] = np.where(rank < MOST_CLASSES, rank, -1)[places.reshape(-1)]
    return own, min(len(numbers), MOST_CLASSES), max(0, len(numbers) - MOST_CLASSES)
