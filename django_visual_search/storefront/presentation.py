"""How a product is shown where the shop says nothing else: title, address, picture."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.db.models.fields.files import FieldFile
from django.utils.module_loading import import_string

from ..conf import conf
from ..fields import EmbeddingField


def title_of(product: Model) -> str:
    return str(product)


def address_of(product: Model) -> str:
    """What ``get_absolute_url`` says, or nothing where the model has none."""
    address = getattr(product, "get_absolute_url", None)
    return str(address() or "") if callable(address) else ""


def picture_of(field: EmbeddingField, row: Model | None) -> FieldFile | None:
    """The picture that the vector of this row was made from; None where it is gone."""
    value: Any = row
    for name in (field.source or "").split("__") if row is not None else ():
        value = getattr(value, name, None)
    return value or None


def thumbnail_of(picture: FieldFile | None, size: int = 240) -> str:
    """Address of a small version, by the shop's ``VISUAL_SEARCH["THUMBNAIL"]`` (picture, size) -> str.

    Without one it is the picture's own address; empty without a picture.
    """
    if not picture:
        return ""
    make = conf.THUMBNAIL
    if make is None:
        return str(picture.url)
    return str((import_string(make) if isinstance(make, str) else make)(picture, size) or "")
