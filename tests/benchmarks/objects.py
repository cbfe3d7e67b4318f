"""Measure the boxes of objects, or learn how they are ranked (``--fit``).

``python -m tests.benchmarks.objects [--fit] [--count N] [--cache DIR]``. Needs ../shared, no database and no
TensorFlow.

Three tables: boxes and what they find, on composites of the reporting set (``composites``; ranking was learned on the
tuning set); photos of one product by the whole and by its main object (``MAIN_OBJECT``); processor time.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from django.conf import settings
from PIL import Image

if not settings.configured:
    settings.configure(SHARED=Path(__file__).resolve().parents[3] / "shared")

from django_visual_search import images
from django_visual_search.extractors import DirectoryStore, objects
from django_visual_search.extractors.lite import EfficientNetLiteExtractor

from ..grocery import GROCERY
from .composites import GROUNDS, Box, Composite, composites, shop_pictures

KINDS = ("grocery", "drawn")
MOST, SEARCHED = 7, 4
"""Boxes beside the whole picture: that are found, and that a search takes by default."""
DETAIL, SURE_SCORE = 896, 0.5
"""As in ``search.detection`` and ``search.query``, which need Django."""
WHOLE: Box = (0, 0, 1, 1)
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
    picture = images.load_whole(photo, size=DETAIL).resize((objects.SIDE, objects.SIDE), Image.Resampling.HAMMING)
    return objects.network_maps(folder, np.asarray(picture))


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
    """Pictures as vectors, of which a part of a photo finds the nearest."""

    def __init__(self, names: list[str], pictures: Iterable[bytes], extractor: EfficientNetLiteExtractor) -> None:
        self.extractor, self.names = extractor, np.array(names)
        self.vectors = np.concatenate([self.vector(picture) for picture in pictures])

    def vector(self, photo: bytes, box: Box = WHOLE) -> np.ndarray:
        spec = self.extractor.spec
        return self.extractor(np.asarray(images.load(photo, options=spec.images, crop=box, size=spec.input_size))[None])

    def ranked(self, vector: np.ndarray) -> np.ndarray:
        """Return the names, nearest first."""
        return self.names[np.argsort(-(self.vectors @ vector[0]), kind="stable")]

    def firsts(self, photo: bytes, boxes: list[Box]) -> list[str]:
        """Return the nearest name for each part of a photo, decoded once as ``search_objects`` does."""
        picture, spec = images.load_whole(photo, size=DETAIL), self.extractor.spec
        parts = [images.crop_square(picture, options=spec.images, crop=box, size=spec.input_size) for box in boxes]
        return [str(self.ranked(vector[None])[0]) for vector in self.extractor(np.stack([*map(np.asarray, parts)]))]

    def with_main_object(self, photo: bytes, folder: Path) -> np.ndarray:
        """Return the query of a search with ``MAIN_OBJECT``, but for its length."""
        whole = self.vector(photo)
        found = objects.boxes_from_maps(maps(photo, folder), MOST)
        return whole + self.vector(photo, found[0].box) if found and found[0].score >= SURE_SCORE else whole


def shop_gallery(kind: str, extractor: EfficientNetLiteExtractor) -> Gallery:
    pictures = shop_pictures(kind)
    return Gallery(list(pictures), map(jpeg, pictures.values()), extractor)


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def report_boxes(count: int, folder: Path, galleries: dict[str, Gallery]) -> None:
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(7))
    for composite in every("reporting", count):
        found = [one.box for one in objects.boxes_from_maps(maps(composite.photo, folder), MOST)] + [WHOLE]
        things = [thing.box for thing in composite.things]
        firsts = galleries[composite.kind].firsts(composite.photo, found + things)
        shared = overlap(np.array(things), np.array(found))
        whole = len(found) - 1
        searched = [*range(min(SEARCHED, whole)), whole]
        for i, (thing, row) in enumerate(zip(composite.things, shared, strict=True)):
            line = [1]
            for some in (range(len(found)), searched):
                best = max(some, key=row.__getitem__)
                line += [row[best] >= FITS, firsts[best] == thing.product]
            line += [firsts[len(found) + i] == thing.product, firsts[whole] == thing.product]
            for key in ("all", f"ground {composite.ground}", f"products {composite.kind}"):
                counts[key] += line
    heads = "with a box", "first by their best box", f"with one of {SEARCHED}", "first by the best of them"
    print("| composites | objects |", *(f"{head} |" for head in heads), "by their true box | by the whole picture |")
    print("|---|---|---|---|---|---|---|---|")
    for key, (n, *shares) in counts.items():
        print(f"| {key} | {n:.0f} | " + " | ".join(f"{share / n:.3f}" for share in shares) + " |")


def report_main(count: int, folder: Path, galleries: dict[str, Gallery]) -> None:
    print("\n| photos of one product | photos | R@1 / mAP, whole | with its main object |\n|---|---|---|---|")
    for ground in GROUNDS:
        queries = [
            (galleries[kind], composite.photo, composite.things[0].product)
            for kind in KINDS
            for composite in composites("reporting", count, ground, kind, alone=True)
        ]
        _print_main(f"composites, ground {ground}", queries, folder)
    lines = {name: (GROCERY / f"{name}.txt").read_text().splitlines() for name in ("train", "val")}
    photos = {name: [line.split(", ")[:2] for line in of] for name, of in lines.items()}
    shelf = [(GROCERY / path).read_bytes() for path, _ in photos["train"]]
    store = Gallery([label for _, label in photos["train"]], shelf, galleries["grocery"].extractor)
    queries = [(store, (GROCERY / path).read_bytes(), label) for path, label in photos["val"]]
    _print_main("grocery val among train, by kind", queries, folder)


def _print_main(title: str, queries: list[tuple[Gallery, bytes, str]], folder: Path) -> None:
    figures = []
    for query in (
        lambda gallery, photo: gallery.vector(photo),
        lambda gallery, photo: gallery.with_main_object(photo, folder),
    ):
        precision = []
        for gallery, photo, right in queries:
            hits = gallery.ranked(query(gallery, photo)) == right
            precision.append((hits[0], (hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean()))
        figures.append(" / ".join(f"{figure:.3f}" for figure in np.mean(precision, axis=0)))
    print(f"| {title} | {len(queries)} | " + " | ".join(figures) + " |")


def report_times(folder: Path, extractor: EfficientNetLiteExtractor) -> None:
    """Print medians of processor time, all in turns, for a composite enlarged to 12 megapixels."""
    composite = next(iter(composites("reporting", 1, "drawn", "grocery")))
    photo = jpeg(Image.open(io.BytesIO(composite.photo)).resize((4000, 3000)))
    spec = extractor.spec

    def search() -> None:
        extractor(np.asarray(images.load(photo, options=spec.images, size=spec.input_size))[None])

    def find() -> None:
        objects.boxes_from_maps(maps(photo, folder), MOST)

    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(31):
        for work in (search, find):
            started = time.process_time()
            work()
            taken[work.__name__].append(1000 * (time.process_time() - started))
    once, objects_once = (float(np.median(taken[name])) for name in ("search", "find"))
    print(f"\nA photo to its vector {once:.1f} ms, to its boxes {objects_once:.1f} ms: {objects_once / once:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--count", type=int, default=40, help="composites of each kind on each ground")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "visual-search-objects"))
    options = parser.parse_args()
    options.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if options.fit:
        fit(options.count, options.cache)
        return
    extractor = EfficientNetLiteExtractor(dimensions=256, artifacts=DirectoryStore(options.cache))
    galleries = {kind: shop_gallery(kind, extractor) for kind in KINDS}
    report_times(options.cache, extractor)
    report_boxes(options.count, options.cache, galleries)
    report_main(options.count, options.cache, galleries)


if __name__ == "__main__":
    main()
