"""The photos that are embedded and asked with, and the bare parts that the engine is compared with."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from django.conf import settings
from PIL import Image

from django_visual_search import images
from django_visual_search.fields.registry import get_field
from django_visual_search.spaces.extractors import extractor_of

from .models import Photographed

FIELD = "benchmarks.Photographed"


def catalogue(count: int) -> list[Path]:
    """``count`` different pictures under MEDIA_ROOT, and a row for each."""
    folder = Path(settings.MEDIA_ROOT, "products")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, data in zip(range(count), _photos(count), strict=False):
        path = folder / f"{i}.jpg"
        path.write_bytes(data)
        paths.append(path)
    if Photographed.objects.count() < len(paths):
        Photographed.objects.all().delete()
        Photographed.objects.bulk_create(
            Photographed(pk=i + 1, image=f"products/{p.name}") for i, p in enumerate(paths)
        )
    return paths


def photo_names(count: int) -> list[str]:
    """Names of ``count`` grocery photos, such as "train/Packages/Milk/…"; empty ones where they are missing."""
    lines = settings.GROCERY / "train.txt"
    if not lines.exists():
        return [""] * count
    names = [line.split(", ")[0] for line in lines.read_text().splitlines()]
    return names[:: max(1, len(names) // count)][:count]


def _photos(count: int) -> Iterator[bytes]:
    for seed, name in enumerate(photo_names(count)):
        yield (settings.GROCERY / name).read_bytes() if name else _drawn(seed)


def _drawn(seed: int) -> bytes:
    patches = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(patches).resize((348, 348), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def enlarged(data: bytes, width: int = 3000, height: int = 4000) -> bytes:
    """As large as a phone takes it."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


class BareParts:
    """Decode and inference with nothing around them, by the same options and the same model, without looks."""

    def __init__(self, threads: int | None) -> None:
        extractor = extractor_of(get_field(FIELD))
        self.spec = extractor.spec
        # The first call writes the model; what the extractor itself then runs is compared with a bare interpreter.
        extractor(np.zeros((1, self.spec.input_size, self.spec.input_size, 3), np.uint8))
        threads = threads or min(4, len(os.sched_getaffinity(0)))
        self.path = extractor.model_path()
        self.interpreter = Interpreter(model_path=str(self.path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.source = self.interpreter.get_input_details()[0]["index"]
        self.target = self.interpreter.get_output_details()[0]["index"]

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(images.load(data, options=self.spec.images, size=self.spec.input_size))

    def infer(self, picture: np.ndarray) -> np.ndarray:
        self.interpreter.set_tensor(self.source, picture[None])
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.target)[0]
