"""The grocery shop of ``../shared/data``: what it sells, its customers' photos, and how good a ranking is."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings

from django_visual_search import images
from django_visual_search.extractors import ArtifactStore, DirectoryStore
from django_visual_search.extractors.classic import ClassicExtractor
from django_visual_search.extractors.keras import KerasExtractor
from django_visual_search.spaces.extractors import DatabaseStore

GROCERY = settings.SHARED / "data" / "grocery"
WEIGHTS = settings.SHARED / "weights/keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


@dataclass(frozen=True)
class Picture:
    """A picture of the product numbered ``label``; ``name`` is its path within GROCERY."""

    label: int
    name: str

    @property
    def file_name(self) -> str:
        """Without its folders, which are too long for an ImageField; no two pictures share it."""
        return Path(self.name).name

    def read(self) -> bytes:
        return (GROCERY / self.name).read_bytes()


def products() -> list[tuple[str, Picture]]:
    """Name and iconic picture of each of the 81 products, by their labels."""
    with (GROCERY / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (row["Class Name (str)"], Picture(int(row["Class ID (int)"]), row["Iconic Image Path (str)"].lstrip("/")))
        for row in rows
    ]


def photos() -> list[Picture]:
    """The 2,640 photos that people took in stores, with the labels of what they show (the fine ones)."""
    lines = (line.split(", ") for line in (GROCERY / "train.txt").read_text().splitlines())
    return [Picture(int(label), name) for name, label, _ in lines]


def split(seed: int = 0) -> tuple[list[Picture], list[Picture]]:
    """A third of each product's photos, drawn at random, for the catalogue; and the rest, in random order."""
    rng = np.random.default_rng(seed)
    catalogue: list[Picture] = []
    rest: list[Picture] = []
    pictures = photos()
    for label in sorted({picture.label for picture in pictures}):
        own = [picture for picture in pictures if picture.label == label]
        drawn = [own[i] for i in rng.permutation(len(own))]
        third = round(len(own) / 3)
        catalogue += drawn[:third]
        rest += drawn[third:]
    return catalogue, [rest[i] for i in rng.permutation(len(rest))]


def classic_features(folder: Path) -> np.ndarray:
    """Features of all ``photos`` by the classic extractor; the first call of a run computes them, to ``folder``."""
    file = folder / "grocery-classic.npy"
    if not file.exists():
        extractor = ClassicExtractor()
        spec, rows = extractor.spec, []
        for photo in photos():
            picture = images.load(photo.read(), options=spec.images, size=spec.input_size)
            rows.append(extractor.features(np.asarray(picture)[None]))
        new = folder / f"grocery-classic-{os.getpid()}.npy"
        np.save(new, np.concatenate(rows))
        new.replace(file)  # other processes read whole files only
    return np.load(file)


def link_pictures(folder: Path, pictures: list[Picture]) -> None:
    """Put the pictures into a media folder as links: nothing that clears a test's media reaches the data."""
    for picture in pictures:
        (folder / picture.file_name).symlink_to(GROCERY / picture.name)


def extractor_setting(name: str) -> dict[str, Any]:
    """The entry of ``EXTRACTORS`` for "classic", "lite0" or a Keras application; skips where that can't be had."""
    if name == "lite0":
        return {"BACKEND": "django_visual_search.extractors.lite.EfficientNetLiteExtractor"}
    if name == "classic":
        return {"BACKEND": "django_visual_search.extractors.classic.ClassicExtractor"}
    if not WEIGHTS.is_file():
        pytest.skip(f"{WEIGHTS} is not here")
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    options = {
        "application": name,
        "application_kwargs": {"alpha": 0.35},
        "weights": str(WEIGHTS),
        "weights_sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
    }
    return {"BACKEND": "django_visual_search.extractors.keras.KerasExtractor", "OPTIONS": options}


def put_exported(folder: Path, name: str = "MobileNetV2", store: ArtifactStore | None = None) -> None:
    """Put the exported model into ``store``, by default the database; a run's first call exports it, to ``folder``."""
    extractor = KerasExtractor(**extractor_setting(name)["OPTIONS"], artifacts=DirectoryStore(folder))
    extractor.features(np.zeros((1, extractor.spec.input_size, extractor.spec.input_size, 3), np.uint8))
    data = extractor.artifacts.get(extractor.artifact).read_bytes()
    (store or DatabaseStore()).put(extractor.artifact, data)


@dataclass(frozen=True)
class Quality:
    """How well a search by photo finds the one product that the photo shows."""

    queries: int
    recall_at_1: float
    recall_at_5: float
    mean_average_precision: float
    """Of ranked products. One product is right, so a query's average precision is 1 / its rank, 0 where it's absent."""

    @classmethod
    def of(cls, rankings: list[list[int]], right: list[int]) -> Quality:
        """``rankings``: products by query, best first; ``right``: the product that each query shows."""
        ranks = np.array(
            [
                ranking.index(product) + 1 if product in ranking else np.inf
                for ranking, product in zip(rankings, right, strict=True)
            ]
        )
        return cls(len(ranks), float((ranks <= 1).mean()), float((ranks <= 5).mean()), float((1 / ranks).mean()))

    def __str__(self) -> str:
        return (
            f"R@1 {self.recall_at_1:.3f}  R@5 {self.recall_at_5:.3f}  mAP {self.mean_average_precision:.3f}  "
            f"({self.queries} queries)"
        )


def picture_precision(scores: np.ndarray, labels: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """R@1 and mean average precision of ranked pictures, every picture of the product being right.

    ``scores``: ``(queries, pictures)``; ``labels``: the product of each picture; ``right``: that of each query.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = labels[order] == right[:, None]
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(axis=1) / hits.sum(axis=1)
    return float(hits[:, 0].mean()), float(average.mean())
