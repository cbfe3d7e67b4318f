"""Measure what a backbone fine-tuned on part of the grocery photos finds of the rest, beside the head alone.

``python -m tests.benchmarks.finetune [--tasks scenes,…] [--options JSON] [--cache DIR]``. Splits and figures as in
``learning``. Needs ../shared and TensorFlow; 10 to 20 minutes of processor time a task. A run that was stopped goes
on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from django_visual_search import images
from django_visual_search.extractors import litert
from django_visual_search.extractors.base import l2_normalise
from django_visual_search.extractors.export import Recipe
from django_visual_search.learning.finetune import finetune
from django_visual_search.learning.finetune.options import FinetuneOptions
from django_visual_search.learning.lda import HeadSettings, learn_head
from django_visual_search.learning.selection import Embed, embed_by, measure
from django_visual_search.learning.splits import Split

from .learning import DIMENSIONS, Shop, chosen, grocery, splits

SIZE = 224
HEADER = "| | R@1 | mAP | wall s | processor s |\n|---|---|---|---|---|"


def pictures(shop: Shop) -> Path:
    """A file of all photos, decoded once."""
    file = shop.folder / f"photos-{SIZE}.npy"
    if not file.exists():
        np.save(file, np.stack([np.asarray(images.load(photo.read(), size=SIZE)) for photo in shop.photos]))
    return file


def recipe() -> Recipe:
    sha256 = hashlib.sha256(grocery.WEIGHTS.read_bytes()).hexdigest()
    return Recipe("MobileNetV2", str(grocery.WEIGHTS), sha256, SIZE, "avg", None, {"alpha": 0.35})


def task(shop: Shop, name: str, split: Split, options: FinetuneOptions) -> None:
    """Print a table: before, the head alone, and the fine-tuned features in several ways."""
    print(f"\n{name}: {split}\n{HEADER}", flush=True)

    def row(title: str, features: np.ndarray, embed: Embed, spent: str = "| |") -> None:
        found = measure(features, shop.products, split, embed, scenes=shop.scenes()).mean()
        print(f"| {title} | {found.recall[1]:.3f} | {found.mean_average_precision:.3f} {spent}", flush=True)

    def centred(features: np.ndarray) -> Embed:
        mean = features[split.train].mean(axis=0)
        return lambda x: l2_normalise(x - mean)

    old = shop.features("224")
    row("cosine", old, l2_normalise)
    row("centred cosine", old, centred(old))
    row("learned head", old, chosen(shop, old[split.train], split.train))
    file = pictures(shop)
    began, used = time.monotonic(), processor_seconds()
    labels = {"product": shop.products}
    tuned = finetune(
        recipe(), file, labels, split, folder=shop.folder, options=options, scenes=shop.scenes(), progress=say
    )
    spent = f"| {time.monotonic() - began:.0f} | {processor_seconds() - used:.0f} |"
    model = shop.folder / f"{name.replace(' ', '-')}.tflite"
    model.write_bytes(tuned.flatbuffer)
    run = litert.Flatbuffer(model, threads=1)
    photos = np.load(file, mmap_mode="r")
    new, mirrored = (
        np.concatenate([run(np.ascontiguousarray(photos[i : i + 1, :, ::step])) for i in range(len(photos))])
        for step in (1, -1)
    )
    row(f"fine-tuned (epoch {tuned.best_epoch}, {tuned.stopped}), centred cosine", new, centred(new), spent)
    both = (new + mirrored) / 2
    row("… mean of photo and flip", both, centred(both))
    train = {"product": shop.products[split.train]}
    row("… centred, PCA 256", new, embed_by(learn_head(new[split.train], {"all": [1] * len(split.train)}, PLAIN).head))
    for shrinkage in (0.1, 0.35, 0.9):
        settings = HeadSettings(DIMENSIONS, shrinkage, 0.05)
        row(f"… head on top, shrinkage {shrinkage}", new, embed_by(learn_head(new[split.train], train, settings).head))


PLAIN = HeadSettings(DIMENSIONS)


def processor_seconds() -> float:
    """Of processes that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.finetune")
    parser.add_argument("--tasks", default="scenes,any photos,unseen products", help="splits to measure")
    parser.add_argument("--options", type=json.loads, default={}, help="of FinetuneOptions, as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the splits")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/visual-search-learning"), help="where features go")
    asked = parser.parse_args()
    shop = Shop(asked.cache)
    found = splits(shop, asked.seed)
    for name in asked.tasks.split(","):
        task(shop, name, found[name], FinetuneOptions(**asked.options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
