"""Whether the confidence that hits are given is the share of them that is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..learning.calibration import Calibration, brier, calibration_error
from .figures import Reliability
from .gallery import Gallery
from .stored import nearest_rows

BINS = 10
FEWEST = 20
"""First hits without which nothing can be said."""


def reliability(
    calibration: Calibration, gallery: Gallery, rows: NDArray[np.intp], label: str | None
) -> Reliability | None:
    """Of the first hit of each picture, itself left out; right is the same product or, with ``label``, the same label.

    None where there are too few.
    """
    catalogue, raw = gallery.catalogue, gallery.raw
    hits = [(row, *first[0]) for row in rows.tolist() if (first := nearest_rows(gallery, row, 1))]
    if len(hits) < FEWEST:
        return None
    right = np.array([_right(gallery, row, hit, label) for row, hit, _ in hits])
    kinds = [raw[label][hit] for _, hit, _ in hits] if label else None
    confidence = calibration([cosine for _, _, cosine in hits], kinds)
    order = np.argsort(confidence, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    what = f"the same product or {label}" if label else "the same product"
    return Reliability(
        f"First hits of {len(catalogue)} pictures, right where they show {what}."
        if len(hits) == len(catalogue)
        else f"First hits of {len(hits)} of {len(catalogue)} pictures, right where they show {what}.",
        [float(confidence[part].mean()) for part in bins],
        [float(right[part].mean()) for part in bins],
        [len(part) for part in bins],
        calibration_error(confidence, right),
        brier(confidence, right),
    )


def _right(gallery: Gallery, row: int, hit: int, label: str | None) -> bool:
    products = gallery.catalogue.products
    if products[row] == products[hit]:
        return True
    return label is not None and gallery.raw[label][row] == gallery.raw[label][hit] != ""
