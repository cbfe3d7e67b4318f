"""Put the rows of a catalogue into the shop, each in a transaction of its own. Entry: ``Importer.put``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.text import slugify

from django_visual_search import images

from .csv_rows import Row, RowError
from .models import Brand, Category, Product, ProductImage

PROBE = 64
"""Side, in pixels, of the trial decode that shows whether a file is a picture."""


class Importer:
    """Upsert rows by SKU or, without one, by name and brand; refuse a product that the file has named before."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, ...], int] = {}

    def put(self, row: Row, line: int) -> str:
        """Write the row and return ``"new"`` or ``"updated"``. Raises RowError; the database is then unchanged.

        Bulk statements send no signals: the caller embeds everything at the end.
        """
        identity = ("sku", row.sku) if row.sku else ("name", row.name.casefold(), row.brand.casefold())
        if identity in self.lines:
            raise RowError(f"The same product as in line {self.lines[identity]}; only that line was imported.")
        files = [_stored(path) for path in row.images]
        with transaction.atomic():
            product, outcome = self._product(row, files[0])
            _further_pictures(product, files[1:])
        self.lines[identity] = line
        return outcome

    def _product(self, row: Row, image: str) -> tuple[Product, str]:
        category, brand = _named(Category, row.category), _named(Brand, row.brand)
        same = {"sku": row.sku} if row.sku else {"name__iexact": row.name, "brand": brand}
        found = list(Product.objects.filter(**same)[:2])
        if len(found) > 1:
            raise RowError("Several products have this name and brand; give the row a SKU.")
        values: dict[str, Any] = {"name": row.name, "category": category, "brand": brand, "price": row.price}
        values |= {"stock": row.stock, "description": row.description, "image": image}
        product = found[0] if found else Product(sku=row.sku or _sku(row), slug=row.slug or _slug(row))
        if row.slug:
            values["slug"] = row.slug
        for name, value in values.items():
            setattr(product, name, value)
        _validate(product)
        if found:
            Product.objects.filter(pk=product.pk).update(**values)
            return product, "updated"
        Product.objects.bulk_create([product])
        return product, "new"


def _validate(instance: Any) -> None:
    try:
        instance.full_clean(exclude=["embedding", "embedding_key"])
    except ValidationError as e:
        reasons = (f"{name}: {' '.join(texts)}" for name, texts in e.message_dict.items())
        raise RowError(" ".join(reasons).replace("__all__: ", "")) from e


def _named(model: Any, name: str) -> Any:
    found = model.objects.filter(name__iexact=name).first()
    if found is None:
        found = model(name=name, slug=_free_slug(model, name))
        _validate(found)
        found.save()
    return found


def _sku(row: Row) -> str:
    return "I-" + hashlib.sha256(f"{row.brand}\0{row.name}".casefold().encode()).hexdigest()[:12].upper()


def _slug(row: Row) -> str:
    return _free_slug(Product, row.name)


def _free_slug(model: Any, name: str) -> str:
    # A name without any Latin letter has no slug
    stem = slugify(name)[:60] or hashlib.sha256(name.encode()).hexdigest()[:10]
    taken = set(model.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    return next(slug for n in range(len(taken) + 1) if (slug := f"{stem}-{n + 1}" if n else stem) not in taken)


def _stored(path: Path) -> str:
    """Store the picture under a name made from its content, so that a second import stores and embeds nothing again."""
    try:
        data = path.read_bytes()
        images.load(data, size=PROBE)
    except images.ImageRefused as e:
        raise RowError(f"{path.name}: {e}") from e
    except OSError as e:
        raise RowError(f"{path.name} can't be read: {e.strerror}.") from e
    name = f"products/imported/{hashlib.sha256(data).hexdigest()[:24]}{path.suffix.lower()[:8]}"
    return name if default_storage.exists(name) else default_storage.save(name, ContentFile(data))


def _further_pictures(product: Product, names: list[str]) -> None:
    present = list(product.images.all())
    if [picture.image.name for picture in present] == names:
        return
    ProductImage.objects.filter(pk__in=[picture.pk for picture in present]).delete()
    ProductImage.objects.bulk_create(
        [ProductImage(product=product, image=name, position=n) for n, name in enumerate(names, 1)]
    )
