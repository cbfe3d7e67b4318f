"""Splits keys into batches as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any


def batched(keys: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Tuples of ``size`` keys, the last one shorter. (``itertools.batched`` comes with Python 3.12.)"""
    iterator = iter(keys)
    while batch := tuple(islice(iterator, size)):
        yield batch
