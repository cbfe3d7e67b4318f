"""Products that rows name by model and key as text: read for a whole page of rows at once, and shown with a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..fields import EmbeddingField
from ..fields.registry import fields_of_product
from ..storefront.presentation import thumbnail_of, title_of
from .hits import change_address

SIDE = 40
"""Pixels of a thumbnail in a list."""

Key = tuple[type[Model], str]


def load_products(wanted: Iterable[Key]) -> dict[Key, Model]:
    """The products that are there, without their vectors: one query for each model."""
    keys: dict[type[Model], set[str]] = defaultdict(set)
    for model, key in wanted:
        keys[model].add(key)
    found: dict[Key, Model] = {}
    for model, named in keys.items():
        sound = [value for key in named if (value := primary_key(model, key)) is not None]
        own = [field.name for field in fields_of_product(model) if field.product is None and field.link is None]
        for product in model._base_manager.defer(*own).filter(pk__in=sound):
            found[model, str(product.pk)] = product
    return found


def primary_key(model: type[Model], text: str) -> Any:
    """The key that the text stands for; None where it can't be one."""
    try:
        value = model._meta.pk.to_python(text)
        return None if "\0" in text else value
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None


def model_of(content_type_id: int | None) -> type[Model] | None:
    """Remembered by Django; None where the model is gone."""
    return ContentType.objects.get_for_id(content_type_id).model_class() if content_type_id else None


def own_picture(product: Model) -> str:
    """Address of a small version of the picture on the product itself; empty where it has none."""
    for field in fields_of_product(type(product)):
        if _links_to_product(field) if field.link else field.product is None:
            return thumbnail_of(getattr(product, field.image_field.name, None), SIDE * 2)
    return ""


def _links_to_product(field: EmbeddingField) -> bool:
    return field.link is not None and field.product == field.link.name


def product_cell(admin_site: Any, product: Model | None, missing: str) -> SafeString:
    """Picture and name, leading to the product's page; ``missing``: what to show where the product is gone."""
    if product is None:
        return format_html('<span class="visual-search-gone">{}</span>', missing)
    picture, address = own_picture(product), change_address(admin_site, product)
    image = (
        format_html('<img src="{}" alt="" width="{}" height="{}" loading="lazy">', picture, SIDE, SIDE)
        if picture
        else ""
    )
    if not address:
        return format_html('<span class="visual-search-product">{}<span>{}</span></span>', image, title_of(product))
    link = '<a class="visual-search-product" href="{}">{}<span>{}</span></a>'
    return format_html(link, address, image, title_of(product))
