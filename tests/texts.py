"""A shop whose products look like what their names say, for searches by text: kinds on top, colours below."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image

from django_visual_search import images
from django_visual_search.fields.registry import get_field
from django_visual_search.spaces.extractors import extractor_of

from .shop_api import key_of
from .testshop.models import Category, Product

LABEL = "testshop.Product.embedding"
KINDS = ["mug", "teapot", "sneaker", "lamp", "chair", "backpack"]
COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (30, 170, 60), "black": (15, 15, 15)}
FIRST_KEY = 1_000_000
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


@functools.cache
def _vectors() -> np.ndarray:
    pictures = [(kind, colour) for kind in KINDS for colour in COLOURS]
    extractor = extractor_of(get_field(LABEL))
    pixels = [images.load(look(*picture, seed), size=32) for seed, picture in enumerate(pictures)]
    return extractor(np.stack([np.asarray(one) for one in pixels]))


def fill_shop() -> dict[str, Product]:
    """Create a product of every kind in every colour, with its vector. Return them by name."""
    categories = {kind: Category.objects.create(name=f"{kind}s") for kind in KINDS}
    names = [(kind, colour) for kind in KINDS for colour in COLOURS]
    products = Product.objects.bulk_create(
        Product(
            pk=FIRST_KEY + number,  # what is held out goes by the key
            name=f"{colour} {kind}",
            category=categories[kind],
            image=f"products/{number}.jpg",
            embedding=vector,
            embedding_key=f"{key_of(LABEL)}:products/{number}.jpg",
        )
        for number, ((kind, colour), vector) in enumerate(zip(names, _vectors(), strict=True))
    )
    return {product.name: product for product in products}
