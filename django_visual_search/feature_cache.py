"""Backbone features of pictures, kept in the database: another head needs no picture read or decoded again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from django.db import connections, router
from numpy.typing import NDArray

from .fields import EmbeddingField
from .models import PictureFeatures
from .statements import Answer, Statement, execute_together

NUMBERS = "<f2"
"""As features are stored: half the space of single precision."""


def lookup(field: EmbeddingField, features_key: str, pictures: Sequence[tuple[str, str]]) -> Statement:
    """SQL giving (object id, features) of those pictures, (object id, image name), whose features are kept."""
    sql = (
        f"SELECT kept.object_id, kept.features FROM {PictureFeatures._meta.db_table} AS kept "
        "JOIN unnest(%s::text[], %s::text[]) AS wanted (object_id, image) USING (object_id, image) "
        "WHERE kept.label = %s AND kept.features_key = %s"
    )
    return sql, ([key for key, _ in pictures], [image for _, image in pictures], field.label, features_key)


def found(answer: Answer) -> dict[str, NDArray[np.float16]]:
    """What ``lookup`` gave: object id -> ``(width,)``."""
    return {object_id: np.frombuffer(bytes(data), NUMBERS) for object_id, data in answer}


def read(
    field: EmbeddingField, features_key: str, pictures: Sequence[tuple[str, str]]
) -> dict[str, NDArray[np.float16]]:
    """The kept features of those pictures, (object id, image name), by object id."""
    connection = connections[router.db_for_write(field.model)]
    return found(execute_together(connection, [lookup(field, features_key, pictures)])[0]) if pictures else {}


def as_bytes(features: NDArray[np.float16]) -> list[bytes]:
    """Each row as it is stored."""
    return [row.astype(NUMBERS, copy=False).tobytes() for row in features]


def forget(field: EmbeddingField, object_ids: Iterable[Any] | None = None) -> None:
    """Drop the features of these rows (primary keys of the model that has the pictures), or of all."""
    rows = PictureFeatures.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    if object_ids is not None:
        rows = rows.filter(object_id__in=[str(key) for key in object_ids])
    rows.delete()
