"""The key beside every vector, ``<extractor key>:<image name>``: what made the vector, and from which picture.

Entry function: ``embedding_key``. Vectors may be compared only if their *extractor keys* are the same. A *mark* in
place of the image name makes a vector stale and leaves it searchable: no storage has an image of that name.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import F, Func, Q, TextField, Value
from django.db.models.functions import Concat

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
