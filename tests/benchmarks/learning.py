"""Measure heads that were learned from the grocery photos, before and after.

``python -m tests.benchmarks.learning [--seeds N] [--only heads,views,features,confidence] [--cache DIR]``. Needs
../shared, TensorFlow for the first run, no database.

The dataset's own test split isn't here. Three splits of its training photos stand in:
- scenes: about 30 % of each product's photos are held out, whole scenes at a time (near-duplicates by a network and
  colours together), and searched among the rest. Untrained features find as many as in the dataset's own test split.
- any photos: the same share drawn photo by photo, so that most have a near-duplicate among the rest.
- unseen products: about 30 % of the products are held out and searched among each other, never in their own scene.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as fast on two cores that others use too

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from django.conf import settings
from PIL import Image

from django_visual_search import images
from django_visual_search.extractors import DirectoryStore
from django_visual_search.extractors.backbone import BackboneExtractor
from django_visual_search.extractors.base import l2_normalise
from django_visual_search.extractors.classic import ClassicExtractor
from django_visual_search.extractors.heads import orthonormal
from django_visual_search.extractors.keras import KerasExtractor
from django_visual_search.learning.calibration import brier, calibration_error
from django_visual_search.learning.confidence import draw_strangers
from django_visual_search.learning.folds import TrainingPlan
from django_visual_search.learning.lda import HeadSettings, learn_head
from django_visual_search.learning.selection import Embed, embed_by, measure
from django_visual_search.learning.splits import Split, near_duplicates, unseen_pictures, unseen_products
from django_visual_search.learning.train import train_head

if not settings.configured:
    settings.configure(SHARED=Path(__file__).resolve().parents[3] / "shared")

from tests import grocery

DIMENSIONS = 256
FIXED = HeadSettings(DIMENSIONS, shrinkage=0.1, residual=0.05)
SHARE = 0.3
ALONE = {"category": [0], "department": [0]}
"""Only the product is learned; the others say what is right and how sure."""


class Shop:
    """Features of the grocery photos by several extractors, computed once and kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.photos = grocery.photos()
        self.products = np.array([photo.label for photo in self.photos])
        self.departments = np.array([photo.name.split("/")[1] for photo in self.photos])
        coarse = [line.split(", ")[2] for line in (grocery.GROCERY / "train.txt").read_text().splitlines()]
        self.categories = np.array([int(number) for number in coarse])

    @cache  # noqa: B019 - one shop a run
    def features(self, name: str) -> np.ndarray:
        """Return features, ``(n, f)``, by name.

        "classic", "224", "320", "max" (pooling), each with "flip"; views joined by "&"; "a+b": side by side, rows unit.
        """
        if "+" in name:
            return np.hstack([l2_normalise(self.features(part)) for part in name.split("+")])
        base, mirrored = (name, "") if name.startswith(("whole", "centre")) else name.partition("-")[::2]
        if mirrored == "both":
            return (self.features(base) + self.features(f"{base}-flip")) / 2
        return self._kept(name, lambda: self._computed(base, bool(mirrored), [p.read() for p in self.photos]))

    def drawn(self, name: str) -> np.ndarray:
        """The same of drawn pictures, which confidence is learned from."""
        return self._of(name, "drawn", drawn_pictures)

    def foreign(self, name: str) -> np.ndarray:
        """The same of other pictures that show nothing a grocery sells, which confidence is measured with."""
        return self._of(name, "foreign", lambda: [data for _, data in foreign_pictures()])

    def _of(self, name: str, what: str, files: Callable[[], list[bytes]]) -> np.ndarray:
        parts = []
        for part in name.split("+"):
            parts.append(self._kept(f"{part}-{what}", lambda part=part: self._computed(part, False, files())))
        return np.hstack([l2_normalise(part) for part in parts]) if len(parts) > 1 else parts[0]

    @cache  # noqa: B019
    def scenes(self) -> np.ndarray:
        return near_duplicates(self.features("224"), beside=self.features("classic"), within=self.products)

    def _kept(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        file = self.folder / f"{name}.npy"
        if not file.exists():
            start = time.monotonic()
            np.save(file, compute())
            print(f"features {name}: {time.monotonic() - start:.0f} s", flush=True)
        return np.load(file)

    def _computed(self, name: str, mirrored: bool, files: list[bytes]) -> np.ndarray:
        extractor = self._extractor(name)
        spec = extractor.spec
        rows = []
        for data in files:
            picture = np.asarray(images.load(data, options=spec.images, size=spec.input_size))
            rows.append(extractor.features(np.ascontiguousarray(picture[None, :, ::-1] if mirrored else picture[None])))
        return np.concatenate(rows)

    def _extractor(self, name: str) -> BackboneExtractor:
        if name == "classic":
            return ClassicExtractor()
        views = name.split("&") if name.startswith(("whole", "centre")) else ["whole"]
        return KerasExtractor(
            "MobileNetV2",
            weights=str(grocery.WEIGHTS),
            weights_sha256=hashlib.sha256(grocery.WEIGHTS.read_bytes()).hexdigest(),
            input_size=int(name) if name.isdigit() else 224,
            pooling="max" if name == "max" else "avg",
            application_kwargs={"alpha": 0.35},
            views=views,
            looks=0,  # networks are compared
            threads=1,
            artifacts=DirectoryStore(self.folder),
        )


@cache
def drawn_pictures() -> list[bytes]:
    return [as_jpeg(picture) for picture in draw_strangers(120)]


@cache
def foreign_pictures() -> list[tuple[str, bytes]]:
    """Kind and bytes of pictures from other worlds: drawn ones, and photos that libraries bring with parts of them."""
    rng = np.random.default_rng(5)
    found = [("drawn", picture) for picture in draw_strangers(160, seed=5)]
    for photo in library_photos():
        found.append(("photo", photo))
        for _ in range(4):
            wide, high = (round(side * rng.uniform(0.35, 0.7)) for side in photo.size)
            x, y = int(rng.integers(0, photo.width - wide)), int(rng.integers(0, photo.height - high))
            found.append(("photo", photo.crop((x, y, x + wide, y + high))))
    return [(kind, as_jpeg(picture)) for kind, picture in found]


def library_photos() -> list[Image.Image]:
    """Those that scikit-image and scikit-learn install: people, animals, buildings, textures, cells, the sky."""
    import skimage
    from sklearn.datasets import load_sample_images

    folder = Path(skimage.__file__).parent / "data"
    files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))
    photos = [Image.open(file).convert("RGB") for file in files]
    photos += [Image.fromarray(array) for array in load_sample_images().images]
    return [photo for photo in photos if min(photo.size) >= 64]


def as_jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def splits(shop: Shop, seed: int) -> dict[str, Split]:
    scenes = shop.scenes()
    return {
        "scenes": unseen_pictures(shop.products, share=SHARE, scenes=scenes, seed=seed),
        "any photos": unseen_pictures(shop.products, share=SHARE, seed=seed),
        "unseen products": unseen_products(shop.products, share=SHARE, scenes=scenes, seed=seed),
    }


def figures(shop: Shop, name: str, way: Callable[[np.ndarray, np.ndarray], Embed], seeds: int) -> str:
    """R@1 / mAP by split, means over seeds. ``way``: features and labels that are learned from, to an embedding."""
    features = shop.features(name)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        for task, split in splits(shop, seed).items():
            embed = way(features[split.train], split.train)
            mean = measure(features, shop.products, split, embed, scenes=shop.scenes()).mean()
            found.setdefault(task, []).append((mean.recall[1], mean.mean_average_precision))
    means = {task: np.mean(rows, axis=0) for task, rows in found.items()}
    return " | ".join(f"{r1:.3f} / {precision:.3f}" for r1, precision in means.values())


HEADER = "| | scenes R@1 / mAP | any photos R@1 / mAP | unseen products R@1 / mAP |\n|---|---|---|---|"


def heads(shop: Shop, seeds: int) -> None:
    """DESIGN's table: classic and network, before and after."""
    print(f"\n{HEADER}")
    for name, title in (("classic", "classic"), ("224", "network")):
        for way, what in (
            (lambda x, rows: l2_normalise, "cosine"),
            (lambda x, rows: embed_by(orthonormal(x.shape[1], DIMENSIONS)), "random projection to 256"),
            (
                lambda x, rows: embed_by(learn_head(x, {"all": [1] * len(x)}, HeadSettings(DIMENSIONS)).head),
                "centred, PCA 256",
            ),
            (lambda x, rows: chosen(shop, x, rows), "learned head, settings chosen by held-out photos"),
        ):
            print(f"| {title}, {what} | {figures(shop, name, way, seeds)} |", flush=True)


def looks(shop: Shop, seeds: int) -> None:
    """The README's table of views: all with the same settings of the head."""
    print(f"\n{HEADER}")
    for views in ("whole", "centre", "whole&centre-mirrored", "whole&whole-mirrored&centre&centre-mirrored"):
        settings = replaced(shrinkage=0.2)

        def way(x: np.ndarray, rows: np.ndarray, settings: HeadSettings = settings) -> Embed:
            return embed_by(learn_head(x, {"product": shop.products[rows]}, settings).head)

        print(f"| {views} | {figures(shop, views, way, seeds)} |", flush=True)


def chosen(shop: Shop, features: np.ndarray, rows: np.ndarray) -> Embed:
    plan = TrainingPlan(DIMENSIONS, "product")
    trained = train_head(
        features, {"product": shop.products[rows]}, plan, before=l2_normalise(features), scenes=shop.scenes()[rows]
    )
    return embed_by(trained.head)


def features(shop: Shop, seeds: int) -> None:
    """What more could help, all with the same settings."""
    print(f"\n{HEADER}")

    def plain(**options):
        return lambda x, rows: embed_by(learn_head(x, {"product": shop.products[rows]}, replaced(**options)).head)

    def with_categories(weight: float):
        labels = {"product": shop.products, "category": shop.categories}
        return lambda x, rows: embed_by(
            learn_head(x, {k: v[rows] for k, v in labels.items()}, replaced(weights={"category": weight})).head
        )

    def flips(x: np.ndarray, rows: np.ndarray) -> Embed:
        both = np.concatenate([x, shop.features("224-flip")[rows]])
        return embed_by(learn_head(both, {"product": np.tile(shop.products[rows], 2)}, FIXED).head)

    for title, name, way in (
        ("network, head", "224", plain()),
        *((f"… shrinkage {s}", "224", plain(shrinkage=s)) for s in (0.02, 0.05, 0.2, 0.4, 0.7)),
        ("… shrinkage by Ledoit and Wolf", "224", plain(shrinkage=None)),
        *((f"… residual {r}", "224", plain(residual=r)) for r in (0.0, 0.1, 0.2, 0.4)),
        *((f"… {d} dimensions", "224", plain(dimensions=d)) for d in (32, 64, 128, 512)),
        *((f"… categories at weight {w}", "224", with_categories(w)) for w in (0.1, 0.3, 1.0)),
        ("… flips learned from", "224", flips),
        ("… mean of photo and flip", "224-both", plain()),
        ("… average and maximum pooling", "224+max", plain()),
        ("… at 320 pixels", "320", plain()),
        ("… at 320 pixels, photo and flip", "320-both", plain()),
        ("… at 224 and 320 pixels", "224+320", plain()),
        ("classic, head", "classic", plain()),
        ("network and classic, cosine", "224+classic", lambda x, rows: l2_normalise),
        ("network and classic, head", "224+classic", plain()),
        ("… photo and flip", "224-both+classic", plain()),
        ("… at 320 pixels", "320+classic", plain()),
        ("… at 320 pixels, photo and flip", "320-both+classic", plain()),
    ):
        print(f"| {title} | {figures(shop, name, way, seeds)} |", flush=True)


def replaced(**options) -> HeadSettings:
    return HeadSettings(**{"dimensions": DIMENSIONS, "shrinkage": 0.1, "residual": 0.05, **options})


def confidence(shop: Shop, seeds: int) -> None:
    """Measure how sure heads are, learned from 70 % of the photos and drawn pictures.

    Of the rest, and of other drawn pictures and photos of other things; a hit of the same coarse class is right too.
    """
    columns = ("right first hits kept", "wrong ones rejected", "drawn rejected", "photos rejected", "Brier", "ECE")
    print(f"\n| at a confidence of 0.5 | {' | '.join(columns)} |\n|---|---|---|---|---|---|---|")
    for name in ("classic", "224", "224+classic"):
        for task in ("scenes", "any photos"):
            rows = [_confidence(shop, name, splits(shop, 100 + seed)[task], seed) for seed in range(seeds)]
            print(f"| {name}, {task} | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |", flush=True)


def _confidence(shop: Shop, name: str, split: Split, seed: int) -> tuple[float, ...]:
    x, rows, held = shop.features(name), split.train, split.held_out
    labels = {"product": shop.products[rows], "category": shop.categories[rows], "department": shop.departments[rows]}
    plan = TrainingPlan(DIMENSIONS, "product", kind="category", category="department", seed=seed, weights=ALONE)
    scenes = shop.scenes()[rows]
    drawn = shop.drawn(name)
    trained = train_head(x[rows], labels, plan, before=l2_normalise(x[rows]), scenes=scenes, strangers=drawn)
    embed, calibration = embed_by(trained.head), trained.calibration
    assert calibration is not None
    gallery = embed(x[rows])

    def first(features: np.ndarray):
        similarities = embed(features) @ gallery.T
        hits = rows[similarities.argmax(axis=1)]
        return hits, calibration(similarities.max(axis=1), shop.departments[hits].tolist())

    hits, sure = first(x[held])
    right, alike = (values[hits] == values[held] for values in (shop.products, shop.categories))
    unsure = first(shop.foreign(name))[1] < 0.5
    kinds = np.array([kind for kind, _ in foreign_pictures()])
    return (
        float((sure[right] >= 0.5).mean()),
        float((sure[~right] < 0.5).mean()),
        float(unsure[kinds == "drawn"].mean()),
        float(unsure[kinds == "photo"].mean()),
        brier(sure, alike),
        calibration_error(sure, alike),
    )


PARTS = {"heads": heads, "views": looks, "features": features, "confidence": confidence}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.learning")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run, of {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=3, help="splits of each kind that figures are means of")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/visual-search-learning"), help="where features go")
    options = parser.parse_args()
    shop = Shop(options.cache)
    for task, split in splits(shop, 0).items():
        print(f"{task}: {split}")
    for part in options.only.split(","):
        start = time.monotonic()
        PARTS[part](shop, options.seeds)
        print(f"({part} took {time.monotonic() - start:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
