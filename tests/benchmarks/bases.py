"""Make ``extractors/bases``: the directions that features are projected to before a shop learns a head.

``python -m tests.benchmarks.bases``. Neutral pictures: the drawn catalogue of the example shop, three of each product;
and, for a network, the rows of its ImageNet classifier, which point to what a thousand kinds of things look like. Rows
have length 1; the directions are those of the largest sums of squares, the classifier weighing a quarter of the
pictures. That weight and the use of the classifier were chosen by the 81 catalogue pictures and 2,640 photos of the
groceries (``train``), not by the photos that figures are reported of (``val``).
"""

from __future__ import annotations

import tempfile
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


def main() -> None:
    BASES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pictures = drawn(Path(folder))
        described = [classic.describe(reduced(np.asarray(images.load(data, size=224)))) for data in pictures]
        write("classic", directions([(1, np.stack(described))]))
        for network in efficientnet.NETWORKS:
            extractor = EfficientNetLiteExtractor(network, artifacts=DirectoryStore(folder))
            size = extractor.input_size
            seen = [extractor.network_features(np.asarray(images.load(data, size=size))[None])[0] for data in pictures]
            classifier = efficientnet.published_weights(network)["_fc.weight"]
            write(network, directions([(1, l2_normalise(np.stack(seen))), (CLASSIFIER, l2_normalise(classifier))]))


def drawn(folder: Path) -> list[bytes]:
    drawings = []
    for item in catalogue():
        shots = [Shot(str(folder / f"{item.sku}-{i}.jpg"), f"{item.sku} photo {i}") for i in range(2)]
        drawings.append(Drawing(item.design, str(folder / f"{item.sku}.jpg"), shots))
    for done, _ in enumerate(write_all(drawings), 1):
        print(f"\r{done} of {len(drawings)} drawn", end="", flush=True)
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


def directions(parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return all principal directions, best first, ``(width, width)``."""
    moments = sum(weight * (rows.T @ rows) / np.square(rows).sum() for weight, rows in parts)
    return np.linalg.eigh(np.asarray(moments, np.float64))[1][:, ::-1]


def write(name: str, found: np.ndarray) -> None:
    kept = found[:, : KEPT[name]]
    scale = np.abs(kept).max(axis=0) / 127
    np.savez_compressed(
        BASES / f"{name}.npz", directions=np.rint(kept / scale).astype(np.int8), scale=scale.astype(np.float32)
    )
    print(f"\n{name}: {(BASES / f'{name}.npz').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
