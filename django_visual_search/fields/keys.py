"""The key beside every vector, ``<extractor key>:<picture>``: the vector's space and its picture.

Entry functions: ``embedding_key`` in Python, ``picture_name`` in SQL. Vectors may be compared only if their *extractor
keys* are the same. A *mark* in place of the picture makes a vector stale and leaves it searchable: no storage has an
image of that name.

Where a field has ``crop``, the picture is its file's name and a *media fragment* of the area that is embedded:
``a.jpg#xywh=percent:25.00,0.00,50.00,40.00`` has left, top, width and height in percent of the picture as shown. There
an editor marks an area, while the pixels that a library counts may be those before EXIF orientation. Another area is
another key, so it makes the vector stale.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from django.db.models import Case, DecimalField, Exists, F, Func, OuterRef, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Coalesce, Concat, Greatest, Round

if TYPE_CHECKING:
    from .embedding import EmbeddingField

SELF = "self"
"""The path of ``product`` to the row itself."""

SEPARATOR = ":"
"""Never part of an extractor key (see ``ExtractorSpec.key``)."""
MARK = f"{SEPARATOR}?"


def embedding_key(extractor_key: str, image_name: str) -> str:
    """Return the key of the vector that this extractor makes from this picture."""
    return f"{extractor_key}{SEPARATOR}{image_name}"


def split_key(key: str) -> tuple[str, str]:
    """Return an embedding key's (extractor key, image name)."""
    extractor_key, _, image_name = key.partition(SEPARATOR)
    return extractor_key, image_name


def in_space(column: str, extractor_key: str) -> Q:
    """Match rows whose vector this extractor made."""
    return Q(**{f"{column}__startswith": embedding_key(extractor_key, "")})


def is_marked(column: str) -> Q:
    """Match rows whose vector was marked as stale and has not been replaced since."""
    return Q(**{f"{column}__contains": MARK})


def marked(column: str) -> Any:
    """Return an expression for the row's key with a mark of its own; the extractor key stays."""
    text = TextField()
    extractor_key = Func(F(column), Value(SEPARATOR), Value(1), function="split_part", output_field=text)
    return Concat(extractor_key, Value(f"{MARK}{uuid.uuid4().hex}"), output_field=text)


KeyArea = tuple[float, float, float, float]

CROP_SIDES = ("x", "y", "width", "height")
"""Ends of the names of the columns that ``crop`` names: the area's centre and its size."""

FRAGMENT = "#xywh=percent:"
PERCENTAGE = r"(\d+\.\d\d)"
NAMED = re.compile(rf"(.*){FRAGMENT}{','.join([PERCENTAGE] * 4)}", re.DOTALL)


def picture_name(field: EmbeddingField) -> Any:
    """Return an expression for the name of a row's picture, from ``field.target_model``, and its area; never NULL.

    Empty for a picture that ``field.only`` leaves out.
    """
    if field.only is None:
        return _name_and_area(field)
    # As a subquery, because no row of an outer join can be locked.
    meant = Exists(QuerySet(field.target_model).filter(field.only, pk=OuterRef("pk")))
    return Case(When(meant, then=_name_and_area(field)), default=Value("", output_field=TextField()))


def _name_and_area(field: EmbeddingField) -> Any:
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


def split_area(field: EmbeddingField, picture: str) -> tuple[str, KeyArea | None]:
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
