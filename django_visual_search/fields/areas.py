"""The area of a picture that is embedded, as a *media fragment* after its name: ``a.jpg#xywh=160,120,320,240``.

Entry functions: ``picture_name`` in SQL, ``split_area`` in Python. The area is left, top, width and height in pixels of
the picture as shown. Only fields with ``crop`` have such names. As a part of the name it is a part of the vector's key,
so that another area makes the vector stale.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db.models import Case, F, TextField, Value, When
from django.db.models.functions import Cast, Coalesce, Concat, Greatest

if TYPE_CHECKING:
    from .embedding import EmbeddingField

Area = tuple[int, int, int, int]

CROP_SIDES = ("x", "y", "width", "height")
"""Ends of the names of the columns that ``crop`` names: the area's centre and its size."""

FRAGMENT = "#xywh="
NAMED = re.compile(rf"(.*){FRAGMENT}(\d+),(\d+),(\d+),(\d+)", re.DOTALL)


def picture_name(field: EmbeddingField) -> Any:
    """Return an expression for the name of a row's picture, from ``field.target_model``, and its area; never NULL."""
    text = TextField()
    name = Coalesce(Cast(field.image_path, text), Value("", output_field=text), output_field=text)
    if not field.crop:
        return name
    x, y, width, height = field.crop_paths
    numbers = [Greatest(F(centre) - F(side) / 2, 0) for centre, side in ((x, width), (y, height))] + [
        F(width),
        F(height),
    ]
    fragment: list[Any] = [Value(FRAGMENT)]
    for number in numbers:
        fragment += [Cast(number, text), Value(",")]
    has_area = {f"{side}__isnull": False for side in (x, y)} | {f"{side}__gt": 0 for side in (width, height)}
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
    x, y, width, height = map(int, numbers)
    return name, (x, y, width, height)
