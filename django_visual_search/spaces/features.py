"""Features of pictures, kept in the database so that another head needs no picture read or decoded.

Entry functions: ``read`` and ``Keeper``. Features are a backbone's numbers for one picture, in half precision; their
*features key* names the backbone and how pictures are prepared for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from django.db import connections, router
from django.db.models import Exists, OuterRef, Q, TextField
from django.db.models.functions import Cast
from numpy.typing import NDArray

from ..conf import conf
from ..db.rows import all_rows, change_all, change_free, key_text
from ..db.statements import compile_query
from ..fields import EmbeddingField
from ..fields.keys import is_marked
from ..models import PictureFeatures

NUMBERS = "<f2"
"""As features are stored: half the space of single precision."""


def read(
    field: EmbeddingField, features_key: str, pictures: Sequence[tuple[str, str]]
) -> dict[str, NDArray[np.float16]]:
    """Return the kept features ``(width,)`` of those pictures, (object id, image name), by object id."""
    images = dict(pictures)
    kept = _kept_features(field).filter(features_key=features_key, object_id__in=images)
    rows = kept.values_list("object_id", "image", "features")
    return {key: np.frombuffer(bytes(data), NUMBERS) for key, image, data in rows if images[key] == image}


def any_kept(field: EmbeddingField, features_key: str) -> bool:
    """Return whether features of that backbone are kept for any of the field's pictures."""
    return bool(_kept_features(field).filter(features_key=features_key).exists())


class Keeper:
    """Keeps features of one field's pictures, up to ``FEATURE_CACHE_ROWS`` of them."""

    def __init__(self, field: EmbeddingField, features_key: str) -> None:
        self.field = field
        self.features_key = features_key
        self.connection = connections[router.db_for_write(field.model)]
        self.room = _room(field)

    def keep(self, pictures: Sequence[tuple[str, str]], features: NDArray[np.float16]) -> None:
        """Keep ``features``, ``(n, width)``, for the pictures (object id, image name).

        Pictures that were replaced under the same name meanwhile are left out. Features that are kept already stay.
        """
        pictures, features = pictures[: self.room], features[: self.room]
        if not pictures:
            return
        table = PictureFeatures._meta.db_table
        # A picture that was replaced under its own name has a key that no picture's name makes, until it is embedded.
        rows = _replaced(self.field).filter(pk__in=[key for key, _ in pictures]).values_list("pk")
        replaced, params = compile_query(rows, self.connection.alias)
        # All features as one value, cut in pieces there: an array's elements would be quoted one by one.
        sql = (
            f"INSERT INTO {table} AS kept (label, features_key, object_id, image, features, written_at) "
            "SELECT %s, %s, made.object_id, made.image, "
            "substring(%s::bytea FROM (made.place::int - 1) * %s::int + 1 FOR %s::int), clock_timestamp() "
            "FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS made (object_id, image, place) "
            f"WHERE made.object_id NOT IN (SELECT replaced.pk::text FROM ({replaced}) AS replaced (pk)) "
            "ORDER BY made.object_id ON CONFLICT (label, features_key, object_id) DO UPDATE SET "
            "image = EXCLUDED.image, features = EXCLUDED.features, written_at = EXCLUDED.written_at "
            "WHERE kept.image <> EXCLUDED.image"
        )
        stored = features.astype(NUMBERS, copy=False)
        size = stored.shape[1] * stored.itemsize
        made = [key for key, _ in pictures], [image for _, image in pictures]
        with self.connection.cursor() as cursor:
            cursor.execute(sql, (self.field.label, self.features_key, stored.tobytes(), size, size, *made, *params))
            self.room -= cursor.rowcount


def forget_features(field: EmbeddingField, object_ids: Iterable[Any] | None = None) -> None:
    """Delete the features of these rows (primary keys of the model that has the pictures), or all of the field's."""
    rows = _kept_features(field)
    if object_ids is not None:
        rows = rows.filter(object_id__in=[key_text(field.target_model, key, rows.db) for key in object_ids])
    change_all(rows, lambda found: found.delete())


def prune(field: EmbeddingField, features_keys: Iterable[str]) -> int:
    """Delete features of other backbones than these, and of pictures whose row is gone. Return how many."""
    gone = ~Exists(
        all_rows(field.target_model)
        .annotate(_visual_id=Cast("pk", TextField()))
        .filter(_visual_id=OuterRef("object_id"))
    )
    needless, deleted = _kept_features(field).filter(~Q(features_key__in=list(features_keys)) | gone), 0

    def delete(found: Any) -> None:
        nonlocal deleted
        deleted += found.delete()[0]

    change_free(needless, delete)  # the rest next time
    return deleted


def _room(field: EmbeddingField) -> int:
    most = int(conf.FEATURE_CACHE_ROWS)
    return max(0, most - _kept_features(field).count()) if most else 0


def _kept_features(field: EmbeddingField) -> Any:
    return PictureFeatures.objects.using(router.db_for_write(field.model)).filter(label=field.label)


def _replaced(field: EmbeddingField) -> Any:
    rows = all_rows(field.target_model, router.db_for_write(field.model))
    if field.link is None:
        return rows.filter(is_marked(field.key_name))
    return rows.filter(Exists(field.companions().filter(is_marked(field.key_name))))
