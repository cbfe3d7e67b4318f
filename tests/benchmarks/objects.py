"""``python -m tests.benchmarks.objects [--fit] [--count N] [--cache DIR]``: measure the boxes of objects, or learn how
they are ranked (``--fit``). Needs ../shared, no database and no TensorFlow.

Boxes are counted on composites of the reporting set (``composites``); ranking was learned on the tuning set.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from django.conf import settings

if not settings.configured:
    settings.configure(SHARED=Path(__file__).resolve().parents[3] / "shared")

from django_visual_search import images
from django_visual_search.extractors import DirectoryStore, objects
from django_visual_search.extractors.lite import EfficientNetLiteExtractor

from .composites import GROUNDS, Box, Composite, composites, shop_pictures

KINDS = ("grocery", "drawn")
MOST = 7
"""Boxes beside the whole picture."""
FITS = 0.5
"""Intersection over union from which a box counts as an object's."""


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes, ``(n, 4)``, and others, ``(m, 4)``: ``(n, m)``."""
    a, b = boxes[:, None], others[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = sides.prod(axis=2)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=2) for box in (a, b)]
    return common / (areas[0] + areas[1] - common)


def maps(photo: bytes, folder: Path) -> list[np.ndarray]:
    options = images.ImageOptions(fit="stretch", trim=False)
    return objects.network_maps(folder, np.asarray(images.load(photo, options=options, size=objects.SIDE)))


def every(which: str, count: int, *, alone: int = 0) -> Iterable[Composite]:
    for ground in GROUNDS:
        for kind in KINDS:
            yield from composites(which, count, ground, kind)
            yield from composites(which, alone, ground, kind, alone=True)


def fit(count: int, folder: Path) -> None:
    """Print weights: ridge regression from the measures of a proposal to its overlap with an object."""
    measured, target, weight = [], [], []
    for composite in every("tuning", count, alone=count // 4):
        layers = [objects.standardised(values) for values in maps(composite.photo, folder)]
        saliency = objects.saliency_maps(layers)
        found = objects.proposals(saliency)
        measured.append(objects.measures(found, saliency, layers))
        target.append(overlap(found / objects.GRID, np.array([t.box for t in composite.things])).max(axis=1))
        weight.append(np.full(len(found), 100 / len(found)))  # each picture counts alike
    x, y, w = (np.concatenate(parts).astype(np.float64) for parts in (measured, target, weight))
    mean, scale = x.mean(axis=0), x.std(axis=0)
    x = np.c_[(x - mean) / scale, np.ones(len(x))]
    penalty = 10 * np.eye(x.shape[1])
    penalty[-1, -1] = 0
    *weights, bias = np.linalg.solve((x * w[:, None]).T @ x + penalty, (x * w[:, None]).T @ y)
    print("WEIGHTS", (weights / scale).round(3).tolist())
    print("BIAS", round(float(bias - (weights / scale) @ mean), 3))


class Gallery:
    """The catalogue's pictures of one kind as vectors, and which product a part of a photo finds first."""

    def __init__(self, kind: str, extractor: EfficientNetLiteExtractor) -> None:
        self.extractor, self.size = extractor, extractor.spec.input_size
        pictures = shop_pictures(kind)
        self.names = list(pictures)
        self.vectors = extractor(np.stack([self._prepared(images_bytes(p)) for p in pictures.values()]))

    def first(self, photo: bytes, box: Box) -> str:
        vector = self.extractor(self._prepared(photo, box)[None])[0]
        return self.names[int(np.argmax(self.vectors @ vector))]

    def _prepared(self, photo: bytes, box: Box | None = None) -> np.ndarray:
        options = self.extractor.spec.images
        return np.asarray(images.load(photo, options=options, crop=box, size=self.size))


def images_bytes(picture) -> bytes:
    import io

    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def report(count: int, folder: Path) -> None:
    extractor = EfficientNetLiteExtractor(artifacts=DirectoryStore(folder))
    galleries = {kind: Gallery(kind, extractor) for kind in KINDS}
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(6))
    for composite in every("reporting", count):
        gallery = galleries[composite.kind]
        found = np.array([box for box, _ in objects.boxes_from_maps(maps(composite.photo, folder), MOST)])
        found = found.reshape(-1, 4)
        shared = overlap(np.array([t.box for t in composite.things]), np.concatenate([found, [[0, 0, 1, 1]]]))
        searched = [gallery.first(composite.photo, tuple(box)) for box in found]
        for thing, row in zip(composite.things, shared, strict=True):
            fitting = bool(row.max() >= FITS)
            best = int(row[:-1].argmax()) if len(found) else -1
            by_box = best >= 0 and searched[best] == thing.product
            by_true = gallery.first(composite.photo, thing.box) == thing.product
            by_whole = gallery.first(composite.photo, objects.WHOLE) == thing.product
            line = np.array([1, fitting, by_box, by_true, by_whole, len(found) / len(composite.things)])
            for key in ("all", f"ground: {composite.ground}", f"products: {composite.kind}"):
                counts[key] += line
    print("| composites | objects | with a box | first by their best box | by their true box | by the whole picture |")
    print("|---|---|---|---|---|---|")
    for key, (n, fitting, box, true, whole, _) in counts.items():
        print(f"| {key} | {n:.0f} | {fitting / n:.3f} | {box / n:.3f} | {true / n:.3f} | {whole / n:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--count", type=int, default=60, help="composites of each kind on each ground")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "visual-search-objects"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    (fit if options.fit else report)(options.count, options.cache)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
