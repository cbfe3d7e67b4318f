"""Vectors as the text that pgvector reads."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray


def halfvec_text(vector: Any) -> str:
    """A vector as a halfvec literal; five digits name every half-precision number exactly."""
    bits = np.asarray(vector, np.float16).view(np.uint16)
    return f"[{b','.join(_texts()[bits].tolist()).decode()}]"


@functools.cache
def _texts() -> NDArray[np.bytes_]:
    """Every half-precision number as text, by its bits: 0.7 MB, six times as fast as formatting each number anew."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).tolist()
    return np.array((b"%.5g " * len(numbers) % tuple(numbers)).split())
