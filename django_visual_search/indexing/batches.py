"""Pictures go in batches: keys as they come, and what is known of a batch on its way to vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .claims import Claim


def batched(keys: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Tuples of ``size`` keys, the last one shorter. (``itertools.batched`` comes with Python 3.12.)"""
    iterator = iter(keys)
    while batch := tuple(islice(iterator, size)):
        yield batch


@dataclass
class Batch:
    """Claimed pictures, and the memory that the decoders fill with them."""

    claimed: list[Claim]
    memory: NDArray[np.uint8]
    """``(n, s, s, 3)``, ``n >= len(claimed)``: used again once the batch is written, for new memory costs page faults,
    a tenth of a millisecond a picture."""
    decoded: list[Future[None]]
    """Done when that picture's pixels are there, or raises why it has none."""
    vectors: Future[NDArray[np.float32]] | None = None
    """None until they are being inferred."""
    features: NDArray[np.float16] | None = None
    """``(len(claimed), width)``: kept ones, which need no pixels; None where they are to be made."""
    made: NDArray[np.float16] | None = None
    """Those that were made, to be kept."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """``(len(claimed), s, s, 3)``"""
        return self.memory[: len(self.claimed)]

    def only(self, places: list[int]) -> Batch:
        """The pictures at these places, not yet being inferred."""
        if len(places) == len(self.claimed):
            return Batch(self.claimed, self.memory, self.decoded, features=self.features)
        return Batch(
            [self.claimed[i] for i in places],
            self.memory[places] if self.features is None else self.memory,
            [self.decoded[i] for i in places],
            features=None if self.features is None else self.features[places],
        )
