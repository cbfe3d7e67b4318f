"""The area of a picture that is embedded, as a *media fragment* after its name.

Entry functions: ``picture_name`` in SQL, ``split_area`` in Python. In ``a.jpg#xywh=percent:25.00,0.00,50.00,40.00`` it
is left, top, width and height in percent of the picture as shown: there an editor marks an area, while the pixels that
a library counts may be those before EXIF orientation. Only fields with ``crop`` have such names. As a part of the name
the area is a part of the vector's key, so that another one makes the vector stale.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db.models import Case, DecimalField, F, TextField, Value, When
from django.db.models.functions import Cast, Coalesce, Concat, Greatest, Round

if TYPE_CHECKING:
    from .embedding import EmbeddingField

Area = tuple[float, float, float, float]

CROP_SIDES = ("x", "y", "width", "height")
"""Ends of the names of the columns that ``crop`` names: the area's centre and its size."""

FRAGMENT = "#xywh=percent:"
NUMBER = r"(\d+\.\d\d)"
NAMED = re.compile(rf"(.*){FRAGMENT}{','.join([NUMBER] * 4)}", re.DOTALL)


def picture_name(field: EmbeddingField) -> Any:
    """Return an expression for the name of a row's picture, from ``field.target_model``, and its area; never NULL."""
    text = TextField()
    name = Coalesce(Cast(field.image_path, text), Value("", output_field=text), output_field=text)
    if not field.crop:
        return name
    x, y, width, height = field.crop_paths
    across, down = field.size_paths
    left, top = Greatest(F(x) - F(width) / 2, 0), Greatest(F(y) - F(height) / 2, 0)
    numbers = [_percent(left, across), _percent(top, down), _percent(F(width), across), _percent(F(height), down)]
    fragment: list[Any] = [Value(FRAGMENT)]
    for number in numbers:
        fragment += [Cast(number, text), Value(",")]
    has_area = {f"{side}__isnull": False for side in (x, y)} | {
        f"{side}__gt": 0 for side in (width, height, across, down)
    }
    area = Case(When(**has_area, then=Concat(*fragment[:-1], output_field=text)), default=Value(""), output_field=text)
    return Case(When(**{f"{field.image_path}__gt": ""}, then=Concat(name, area, output_field=text)), default=name)


def file_name(field: EmbeddingField, picture: str) -> str:
    """Return the name that the storage knows a picture by."""
    return split_area(field, picture)[0]


def split_area(field: EmbeddingField, picture: str) -> tuple[str, Area | None]:
    """Return a picture's ``file_name``, and the area of it that is embedded; None for all of it."""
    named = NAMED.fullmatch(picture) if field.crop else None
    if named is None:
        return picture, None
    name, *numbers = named.groups()
    x, y, width, height = map(float, numbers)
    return name, (x, y, width, height)


def _percent(length: Any, side: str) -> Any:
    # Without the cast PostgreSQL would divide whole numbers.
    return Round(Cast(length, DecimalField(max_digits=20, decimal_places=4)) * 100 / F(side), precision=2)
