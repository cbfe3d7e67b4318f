"""Write vectors: compare-and-set on the picture that they were made from, in bulk.

Entry functions: ``write`` and ``clear``. Rows are locked before attempts, and what someone else has locked is passed
over, so that a shop's own transaction neither waits for this one nor deadlocks with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from django.db import connections, router, transaction
from numpy.typing import NDArray

from ..db.statements import halfvec_text
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from .claims import Claim, Picture
from .stale import targets

Made = list[tuple[Picture, NDArray[np.float16]]]
"""Pictures and their vectors."""


def write(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16]) -> set[str]:
    """Write vectors and keys of the claims that still hold and whose row still has the picture that was read.

    ``vectors``: ``(len(claimed), field.dimensions)``. Companion rows are made where they are missing. Returns the
    object ids that were written. The claims on rows that someone else has locked stay.
    """
    connection = connections[router.db_for_write(field.model)]
    with transaction.atomic(using=connection.alias):
        unchanged = _lock_unchanged(field, claimed, connection.alias)
        written = _end_claims(field, [c for c in claimed if c.picture.object_id in unchanged], connection)
        made = [(c.picture, v) for c, v in zip(claimed, vectors, strict=True) if c.picture.object_id in written]
        if made:
            (_update_rows if field.link is None else _upsert_companions)(field, made, unchanged, connection)
    return written


def clear(field: EmbeddingField, keys: list[Any]) -> int:
    """Remove the vectors of rows whose picture was removed; return how many.

    ``keys``: primary keys of the rows that had the pictures.
    """
    using = router.db_for_write(field.model)
    with transaction.atomic(using=using):
        rows = targets(field).filter(pk__in=keys, visual_image="").order_by("pk")
        empty = [row[0] for row in _locked(rows).values_list("pk")]
        owners = field.model._base_manager.using(using)
        owners = owners.filter(**{f"{field.link.name}__pk__in" if field.link else "pk__in": empty})
        owners = owners.filter(**{f"{field.key_name}__isnull": False})
        free = list(_locked(owners).values_list("pk", flat=True))
        return int(owners.filter(pk__in=free).update(**{field.name: None, field.key_name: None}))


def _locked(rows: Any) -> Any:
    """Lock rows against changes of the picture, wherever in a chain of tables it lies.

    Foreign keys to them stay possible; rows that are locked already are left out.
    """
    return rows.select_for_update(skip_locked=True, no_key=True)


def _lock_unchanged(field: EmbeddingField, claimed: list[Claim], using: str) -> dict[str, Any]:
    """Lock the rows that still have their pictures.

    Returns object id -> the row's primary key, or what a companion's link refers to.
    """
    images = {c.picture.object_id: c.picture.image for c in claimed}
    referred = field.link.target_field.attname if field.link else "pk"
    rows = _locked(targets(field).filter(pk__in=list(images)).order_by("pk"))
    found = list(rows.values_list("pk", "visual_image", referred))
    unchanged = {str(pk): value for pk, image, value in found if images[str(pk)] == image}
    if field.link is None:
        return unchanged
    busy = _locked_companions(field, list(unchanged.values()), using)
    return {object_id: value for object_id, value in unchanged.items() if value not in busy}


def _locked_companions(field: EmbeddingField, referred: list[Any], using: str) -> set[Any]:
    """Return whose companions someone else has locked, as Django's cascade does before it deletes the picture's row."""
    assert field.link is not None
    companions = field.model._base_manager.using(using).filter(**{f"{field.link.attname}__in": referred})
    existing = set(companions.values_list(field.link.attname, flat=True))
    return existing - set(_locked(companions.order_by("pk")).values_list(field.link.attname, flat=True))


END_CLAIMS = """
DELETE FROM {table} WHERE id IN (
    SELECT held.id FROM {table} AS held JOIN unnest(%s::text[], %s::uuid[]) AS mine (object_id, token)
    USING (object_id, token) WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED)
RETURNING object_id
"""


def _end_claims(field: EmbeddingField, claimed: list[Claim], connection: Any) -> set[str]:
    """End the claims that are still ours; whoever claimed or marked the picture since has a newer right to write.

    Returns their object ids.
    """
    sql = END_CLAIMS.format(table=connection.ops.quote_name(IndexingAttempt._meta.db_table))
    with connection.cursor() as cursor:
        cursor.execute(sql, ([c.picture.object_id for c in claimed], [c.token for c in claimed], field.label))
        return {object_id for (object_id,) in cursor.fetchall()}


UPDATE_ROWS = """
UPDATE {table} AS owner SET {vector} = made.vector::halfvec, {key} = made.key
FROM unnest(%s::text[], %s::text[], %s::text[]) AS made (pk, vector, key)
WHERE owner.{pk} = ANY(%s) AND owner.{pk}::text = made.pk
"""


def _update_rows(field: EmbeddingField, made: Made, keys: dict[str, Any], connection: Any) -> None:
    quote, opts = connection.ops.quote_name, field.model._meta
    sql = UPDATE_ROWS.format(
        table=quote(opts.db_table),
        vector=quote(field.column),
        key=quote(opts.get_field(field.key_name).column),
        pk=quote(opts.pk.column),
    )
    pictures = [picture for picture, _ in made]
    params = (
        [picture.object_id for picture in pictures],
        [halfvec_text(vector) for _, vector in made],
        [picture.key for picture in pictures],
        [opts.pk.get_db_prep_value(keys[picture.object_id], connection) for picture in pictures],
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def _upsert_companions(field: EmbeddingField, made: Made, referred: dict[str, Any], connection: Any) -> None:
    assert field.link is not None
    link = field.link.attname
    companions = [
        field.model(**{link: referred[picture.object_id], field.name: vector.tolist(), field.key_name: picture.key})
        for picture, vector in made
    ]
    field.model._base_manager.using(connection.alias).bulk_create(
        companions, update_conflicts=True, update_fields=[field.name, field.key_name], unique_fields=[field.link.name]
    )
