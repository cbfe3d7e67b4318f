"""Vectors as the text that pgvector reads."""

from __future__ import annotations

from typing import Any

import numpy as np


def halfvec_text(vector: Any) -> str:
    """A vector as a halfvec literal; five digits name every half-precision number exactly."""
    return "[" + ",".join([f"{number:.5g}" for number in np.asarray(vector, np.float16).tolist()]) + "]"
