"""A shop whose products look like what their names say, for searches by text: kinds on top, colours below."""

from __future__ import annotations

import io

import numpy as np
from django.core.files.base import ContentFile
from PIL import Image

from .conftest import embed_all
from .testshop.models import Category, Product

LABEL = "testshop.Product.embedding"
KINDS = ["mug", "teapot", "sneaker", "lamp", "chair", "backpack"]
COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (30, 170, 60), "black": (15, 15, 15)}
FIELDS = {"TEXT_FIELDS": {"testshop.Product": ["name", "category__name"]}, "TEXT_LANGUAGE": "english"}


def look(kind: str, colour: str, seed: int = 0) -> bytes:
    """Return a picture: patches of grey that the kind has on top, the colour below, and some noise by ``seed``."""
    patches = np.random.default_rng(KINDS.index(kind)).integers(30, 230, (2, 4, 1), dtype=np.int16).repeat(3, axis=2)
    below = np.full((2, 4, 3), COLOURS[colour], np.int16)
    noise = np.random.default_rng(seed).integers(-8, 9, (4, 4, 3), dtype=np.int16)
    pixels = np.clip(np.concatenate([patches, below]) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(file, "JPEG", quality=95)
    return file.getvalue()


def fill_shop() -> dict[str, Product]:
    """Create and embed a product of every kind in every colour. Return them by name."""
    shop = {}
    categories = {kind: Category.objects.create(name=f"{kind}s") for kind in KINDS}
    for number, (kind, colour) in enumerate((kind, colour) for kind in KINDS for colour in COLOURS):
        picture = ContentFile(look(kind, colour, number), name=f"{number}.jpg")
        name = f"{colour} {kind}"
        shop[name] = Product.objects.create(name=name, category=categories[kind], image=picture)
    embed_all(LABEL)
    return shop
