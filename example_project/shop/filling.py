"""Fills the shop with the drawn catalogue; doing it again adds only what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from django.conf import settings
from django.utils.text import slugify

from .drawing.catalogue import Item, catalogue
from .drawing.write import Shot, write_all
from .models import Brand, Category, Product, ProductImage

FOLDER = "products/drawn"


def _files(item: Item) -> tuple[str, dict[str, str]]:
    """Names, in the media folder, of the item's picture and of its photos by their seeds."""
    photos = {f"{item.sku} {n}": f"{FOLDER}/{item.sku.lower()}-{n}.jpg" for n in range(1, item.photos + 1)}
    return f"{FOLDER}/{item.sku.lower()}.jpg", photos


def undrawn(items: list[Item]) -> list[Item]:
    media = Path(settings.MEDIA_ROOT)
    return [
        item for item in items for main, photos in [_files(item)] if not _all_there(media, [main, *photos.values()])
    ]


def _all_there(media: Path, names: list[str]) -> bool:
    return all((media / name).exists() for name in names)


def draw(items: list[Item], done: Callable[[int], None]) -> None:
    """Draw the pictures of ``items`` into the media folder; ``done`` hears how many are through."""
    media = Path(settings.MEDIA_ROOT)
    work = []
    for item in items:
        main, photos = _files(item)
        work.append((item.design, str(media / main), [Shot(str(media / name), seed) for seed, name in photos.items()]))
    for count, _ in enumerate(write_all(work), 1):
        done(count)


def fill(items: list[Item]) -> int:
    """Insert the products that aren't there yet, in bulk, without embedding them. Returns how many were inserted."""
    there = set(Product.objects.values_list("sku", flat=True))
    new = [item for item in items if item.sku not in there]
    # Kinds mixed, as in a shop that grew
    Random("order of arrival").shuffle(new)
    for model, names in ((Category, {item.category for item in new}), (Brand, {item.brand for item in new})):
        model.objects.bulk_create([model(name=n, slug=slugify(n)) for n in sorted(names)], ignore_conflicts=True)
    categories, brands = Category.objects.in_bulk(field_name="name"), Brand.objects.in_bulk(field_name="name")
    products = [
        Product(
            name=item.name,
            slug=slugify(f"{item.name} {item.sku}"),
            sku=item.sku,
            category=categories[item.category],
            brand=brands[item.brand],
            price=item.price,
            stock=item.stock,
            description=item.description,
            image=_files(item)[0],
        )
        for item in new
    ]
    Product.objects.bulk_create(products)
    further = [
        ProductImage(product=product, image=name, position=position)
        for item, product in zip(new, products, strict=True)
        for position, name in enumerate(_files(item)[1].values(), 1)
    ]
    ProductImage.objects.bulk_create(further)
    return len(products)


def items() -> list[Item]:
    return list(catalogue())
