"""``python -m tests.benchmarks.shops [--draws N] [--cache DIR]``: is a head that is called better ever worse on photos?

Shops of several shapes are made of the grocery photos, each learns a head, and the 296 photos of other stores (``val``)
are searched before and after. Those photos choose nothing. Needs ../shared, no database and no TensorFlow.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import django
import numpy as np
from django.conf import settings
from PIL import Image

from django_visual_search import images
from django_visual_search.extractors.lite import EfficientNetLiteExtractor
from django_visual_search.extractors.looks import descriptors_of
from django_visual_search.learning.augment import altered_views
from django_visual_search.learning.folds import TrainingPlan
from django_visual_search.learning.selection import embed_by
from django_visual_search.learning.splits import near_duplicates
from django_visual_search.learning.train import TrainedHead, train_head

if not settings.configured:
    settings.configure(
        SHARED=Path(__file__).resolve().parents[3] / "shared",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_visual_search"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
    )
    django.setup()  # for the verdict, which is the command's; no database is asked

from django_visual_search.training.head import metrics_json
from django_visual_search.training.switching import shortcoming
from tests import grocery

DIMENSIONS = 256
VIEWS = 1000
SMALL = 30
"""Products of the smallest shop."""


@dataclass(frozen=True)
class Photos:
    """Features, and kind and department of each photo."""

    features: np.ndarray
    kinds: np.ndarray
    departments: np.ndarray


def photos(folder: Path, name: str, altered: bool = False) -> Photos:
    """Photos of "train" or "val"; ``altered``: views of the first VIEWS in random order instead."""
    lines = [line.split(", ") for line in (grocery.GROCERY / f"{name}.txt").read_text().splitlines()]
    if altered:
        lines = [lines[i] for i in order(len(lines))[:VIEWS]]
    file = folder / f"shops-{name}{'-altered' * altered}.npy"
    if not file.exists():
        extractor = EfficientNetLiteExtractor(dimensions=DIMENSIONS)
        rows = []
        for i, (path, *_) in enumerate(lines):
            data = (grocery.GROCERY / path).read_bytes()
            picture = images.load(data, options=extractor.spec.images, size=extractor.spec.input_size)
            if altered:
                picture = altered_views(Image.fromarray(np.asarray(picture)), 1, [i])[0]
            rows.append(extractor.kept_features(np.asarray(picture)[None])[0])
        np.save(file, np.stack(rows))
    kinds = np.array([path.split("/")[-2] for path, *_ in lines])
    return Photos(np.load(file).astype(np.float32), kinds, np.array([path.split("/")[1] for path, *_ in lines]))


def order(count: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(count)


@dataclass(frozen=True)
class GroceryShop:
    """A shop of ``rows`` of the photos. ``single``: each is a product, else each kind; ``aims``: named labels."""

    title: str
    rows: np.ndarray
    single: bool
    aims: tuple[str, ...]


def shops(train: Photos, draws: int) -> Iterator[GroceryShop]:
    every = np.arange(len(train.kinds))
    yield GroceryShop("2,640 products, one picture each", every, True, ("kind",))
    yield GroceryShop("2,640 products, one picture each, two labels", every, True, ("kind", "department"))
    yield GroceryShop("81 products, several pictures each", every, False, ("department", "product"))
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        kinds = rng.choice(np.unique(train.kinds), 10, replace=False)
        rows = [rng.choice(np.flatnonzero(train.kinds == kind), SMALL // 10) for kind in kinds]
        title = f"{SMALL} products of 10 kinds, one picture each, draw {seed}"
        yield GroceryShop(title, np.unique(np.concatenate(rows)), True, ("kind",))


def learned(shop: GroceryShop, train: Photos, altered: Photos) -> TrainedHead:
    """Learn a head as ``train_embedding`` does."""
    rows = shop.rows
    viewed = order(len(train.kinds))[:VIEWS]
    views = np.flatnonzero(np.isin(viewed, rows)) if shop.single else np.empty(0, int)
    of = np.concatenate([rows, viewed[views]])
    features = np.concatenate([train.features[rows], altered.features[views]])
    labels = {"product": of if shop.single else train.kinds[of]}
    labels |= {"kind": train.kinds[of], "department": train.departments[of]}
    labels = {name: labels[name] for name in ("product", *shop.aims) if name in labels}
    width = EfficientNetLiteExtractor(dimensions=DIMENSIONS).network_width or 0
    pictures, looks = np.split(train.features[rows], [width], axis=1)
    scenes = near_duplicates(pictures, beside=descriptors_of(looks), within=train.kinds[rows])
    scenes = np.concatenate([scenes, scenes.max(initial=0) + 1 + np.arange(len(views))])
    untrained = EfficientNetLiteExtractor(dimensions=DIMENSIONS).project(features.astype(np.float16))
    plan = TrainingPlan(DIMENSIONS, "product", aims=shop.aims)
    plain = np.arange(len(of)) < len(rows)
    return train_head(features, labels, plan, before=untrained, untrained=untrained, scenes=scenes, plain=plain)


def found(gallery: np.ndarray, queries: np.ndarray, right: np.ndarray) -> float:
    """R@1 of queries that have something right to find."""
    able = right.any(axis=1)
    return float(np.take_along_axis(right, (queries @ gallery.T).argmax(axis=1)[:, None], axis=1)[able].mean())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shops")
    parser.add_argument("--draws", type=int, default=10, help="of the smallest shop")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/visual-search-learning"), help="where features go")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    train, altered, val = (photos(options.cache, *which) for which in (("train",), ("train", True), ("val",)))
    extractor = EfficientNetLiteExtractor(dimensions=DIMENSIONS)
    print("| shop | label | held out: untrained → learned | called better | photos: untrained → learned | s |")
    print("|---|---|---|---|---|---|")
    failed = 0
    for shop in shops(train, options.draws):
        began = time.process_time()
        trained = learned(shop, train, altered)
        spent = time.process_time() - began
        better = bool(trained.outcomes) and shortcoming(metrics_json(trained, not shop.single)) is None
        embed = embed_by(trained.head)
        for aim in shop.aims:
            own = train.departments if aim == "department" else train.kinds
            asked = val.departments if aim == "department" else val.kinds
            right = asked[:, None] == own[shop.rows][None]
            before, after = (
                found(by(train.features[shop.rows]), by(val.features), right)
                for by in (lambda rows: extractor.project(rows.astype(np.float16)), embed)
            )
            one = next((one for one in trained.outcomes if one.question.label == aim), None)
            held = f"{one.untrained.recall[1]:.3f} → {one.after.recall[1]:.3f}" if one else "not measured"
            wrong = better and after < before
            failed += wrong
            print(
                f"| {shop.title} | {aim} | {held} | {'yes' if better else 'no'} | {before:.3f} → {after:.3f}"
                f"{' WORSE' if wrong else ''} | {spent:.0f} |",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
