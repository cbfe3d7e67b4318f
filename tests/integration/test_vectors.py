"""Vectors as pgvector reads them."""

import numpy as np

from django_visual_search.db.statements import halfvec_text


def test_every_half_precision_number_survives():
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    numbers = numbers[np.isfinite(numbers)]
    read = np.array([float(text) for text in halfvec_text(numbers).strip("[]").split(",")], np.float16)
    assert np.array_equal(read, numbers)
