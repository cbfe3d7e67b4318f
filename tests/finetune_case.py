"""The small fine-tuning of test_learning_finetune.py; also a program of its own: ``PHOTOS WEIGHTS FOLDER``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from django_visual_search.extractors.export import Recipe
from django_visual_search.learning.finetune import finetune
from django_visual_search.learning.finetune.options import FinetuneOptions
from django_visual_search.learning.splits import Split

SIZE = 64
PRODUCTS, PHOTOS, HELD = 12, 14, 4
"""Of each product, so many photos, and the last so many of these held out."""

SMALL = FinetuneOptions(
    epochs=5,
    batch_size=24,
    training_size=SIZE,
    measure_every=1,
    learning_rate=1e-3,
    weight_decay=0.01,
    scale=10.0,
    alpha=0.6,
    frozen_stride=0,
)
"""Few steps of a small network: a higher rate than a shop's, and every layer learns."""


def recipe(weights: Path | None, size: int = SIZE) -> Recipe:
    sha256 = None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
    return Recipe("MobileNetV2", weights and str(weights), sha256, size, "avg", None, {"alpha": 0.35})


def products() -> np.ndarray:
    return np.repeat(np.arange(PRODUCTS), PHOTOS)


def split() -> Split:
    held = np.arange(PRODUCTS * PHOTOS) % PHOTOS >= PHOTOS - HELD
    return Split("unseen pictures", np.flatnonzero(~held), np.flatnonzero(held), None)


def arguments(photos: Path, weights: Path) -> dict[str, Any]:
    labels = {"product": products()}
    return {"recipe": recipe(weights), "pictures": photos, "labels": labels, "split": split(), "options": SMALL}


if __name__ == "__main__":
    photos, weights, folder = map(Path, sys.argv[1:])
    finetune(**arguments(photos, weights), folder=folder, progress=lambda line: print(line, flush=True))
