"""Make ``extractors/bases``: directions that features are projected to before a shop learns a head.

And the mean of the classic descriptor, which is subtracted from looks.
``python -m tests.benchmarks.bases [NAME …]``, all files unless some are named. Neutral pictures: the drawn catalogue of
the example shop, three of each product; and, for a network, the rows of its ImageNet classifier, which point to what a
thousand kinds of things look like. Rows have length 1; the directions are those of the largest sums of squares, the
classifier weighing a quarter of the pictures. That weight and the use of the classifier were chosen by the 81 catalogue
pictures and 2,640 photos of the groceries (``train``), not by the photos that figures are reported of (``val``).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from django_visual_search import images
from django_visual_search.extractors import DirectoryStore, classic, efficientnet
from django_visual_search.extractors.base import l2_normalise
from django_visual_search.extractors.lite import EfficientNetLiteExtractor
from django_visual_search.extractors.looks import BASES, reduced
from example_project.shop.drawing.catalogue import catalogue
from example_project.shop.drawing.write import Drawing, Shot, write_all

KEPT = {"classic": 64, **dict.fromkeys(efficientnet.NETWORKS, 256)}
CLASSIFIER = 0.25


def main(names: Sequence[str]) -> None:
    BASES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        catalogue_pictures, photos = drawn(Path(folder))
        pictures = catalogue_pictures + photos
        if "classic" in names:
            write_classic(described(catalogue_pictures), described(photos))
        for network in [name for name in efficientnet.NETWORKS if name in names]:
            extractor = EfficientNetLiteExtractor(network, artifacts=DirectoryStore(folder))
            size = extractor.input_size
            seen = [extractor.network_features(np.asarray(images.load(data, size=size))[None])[0] for data in pictures]
            classifier = efficientnet.published_weights(network)["_fc.weight"]
            write(network, directions([(1, l2_normalise(np.stack(seen))), (CLASSIFIER, l2_normalise(classifier))]))


def drawn(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Return the catalogue's pictures, as from a studio, and two photos of each product."""
    drawings = []
    for item in catalogue():
        shots = [Shot(str(folder / f"{item.sku}-{i}.jpg"), f"{item.sku} photo {i}") for i in range(2)]
        drawings.append(Drawing(item.design, str(folder / f"{item.sku}.jpg"), shots))
    for done, _ in enumerate(write_all(drawings), 1):
        print(f"\r{done} of {len(drawings)} drawn", end="", flush=True)
    photos = [shot.file for drawing in drawings for shot in drawing.shots]
    return [(folder / f"{item.sku}.jpg").read_bytes() for item in catalogue()], [Path(p).read_bytes() for p in photos]


def directions(parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return all principal directions, best first, ``(width, width)``."""
    moments = sum(weight * (rows.T @ rows) / np.square(rows).sum() for weight, rows in parts)
    return np.linalg.eigh(np.asarray(moments, np.float64))[1][:, ::-1]


def described(pictures: Sequence[bytes]) -> np.ndarray:
    return classic.describe(reduced(np.stack([np.asarray(images.load(data, size=224)) for data in pictures])))


def write_classic(studio: np.ndarray, photos: np.ndarray) -> None:
    """Write the mean of the descriptors of catalogue pictures, and the directions of all of them less it.

    The mean of photos too would leave the catalogue's pale ground in its pictures' looks: then fewer similar items
    shared a colour (.138 instead of .148 at a weight of 0.4).
    """
    mean = studio.mean(axis=0)
    write("classic", directions([(1, l2_normalise(np.concatenate([studio, photos]) - mean))]), mean=mean)


def write(name: str, found: np.ndarray, **more: np.ndarray) -> None:
    kept = found[:, : KEPT[name]]
    scale = np.abs(kept).max(axis=0) / 127
    rounded = np.rint(kept / scale).astype(np.int8)
    np.savez_compressed(BASES / f"{name}.npz", directions=rounded, scale=scale.astype(np.float32), **more)
    print(f"\n{name}: {(BASES / f'{name}.npz').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:] or list(KEPT))
