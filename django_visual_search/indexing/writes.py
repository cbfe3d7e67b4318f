"""Writing vectors to companion rows, which are made here where they are missing.

Writing vectors: compare-and-set on the picture they were made from, in bulk.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from django.db import connections, router, transaction
from numpy.typing import NDArray

from ..db.statements import compile_query, execute_together, halfvec_text
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from .claims import Claim
from .stale import LOCK, targets


def write_companions(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16]) -> set[str]:
    """As ``writes.write``, for a field whose pictures are in rows that its model links to."""
    connection = connections[router.db_for_write(field.model)]
    with transaction.atomic(using=connection.alias):
        linked = _unchanged(field, claimed, connection)
        mine = _finish(field, [c for c in claimed if c.picture.object_id in linked], connection)
        chosen = [(c, vector) for c, vector in zip(claimed, vectors, strict=True) if c.picture.object_id in mine]
        if chosen:
            _upsert(field, chosen, linked, connection.alias)
    return mine


def _unchanged(field: EmbeddingField, claimed: list[Claim], connection: Any) -> dict[str, Any]:
    """Lock the rows that have the pictures; object id -> what a companion's link refers to."""
    assert field.link is not None
    wanted = {c.picture.object_id: c.picture.image for c in claimed}
    rows = targets(field).filter(pk__in=wanted).order_by("pk")
    rows = rows.values_list("pk", "visual_image", field.link.target_field.attname)
    sql, params = compile_query(rows, connection.alias)
    [found] = execute_together(connection, [(f"{sql} {LOCK}", params)])
    busy = _busy(field, [linked for _, _, linked in found], connection.alias)
    return {str(pk): linked for pk, image, linked in found if wanted[str(pk)] == image and linked not in busy}


def _busy(field: EmbeddingField, linked: list[Any], using: str) -> set[Any]:
    """Companions that someone else has locked, as Django's cascade does before it deletes the picture's row."""
    assert field.link is not None
    owners = field.model._base_manager.using(using).filter(**{f"{field.link.attname}__in": linked})
    known = set(owners.values_list(field.link.attname, flat=True))
    free = owners.order_by("pk").select_for_update(skip_locked=True, no_key=True)
    return known - set(free.values_list(field.link.attname, flat=True))


def _finish(field: EmbeddingField, claimed: list[Claim], connection: Any) -> set[str]:
    """End the claims that are still ours. Whoever claimed or marked the picture since has a newer right to write."""
    table = connection.ops.quote_name(IndexingAttempt._meta.db_table)
    sql = (
        f"DELETE FROM {table} WHERE id IN (SELECT held.id FROM {table} AS held "
        "JOIN unnest(%s::text[], %s::uuid[]) AS mine (object_id, token) USING (object_id, token) "
        "WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED) RETURNING object_id"
    )
    tokens = [c.picture.object_id for c in claimed], [c.token for c in claimed], field.label
    [rows] = execute_together(connection, [(sql, tokens)])
    return {row[0] for row in rows}


def _upsert(field: EmbeddingField, chosen: list[tuple[Claim, Any]], linked: dict[str, Any], using: str) -> None:
    assert field.link is not None
    companions = [
        field.model(
            **{
                field.link.attname: linked[claimed.picture.object_id],
                field.name: vector.tolist(),
                field.key_name: claimed.picture.key,
            }
        )
        for claimed, vector in chosen
    ]
    field.model._base_manager.using(using).bulk_create(
        companions, update_conflicts=True, update_fields=[field.name, field.key_name], unique_fields=[field.link.name]
    )


# The row is locked before the attempt, as everywhere. The claim must still be ours: whoever claimed or marked the
# picture since has a newer right to write.
WRITE = """
WITH made AS (SELECT * FROM unnest(%s::text[], %s::uuid[], %s::text[], %s::text[], string_to_array(%s, ' '))
    AS made (object_id, token, image, key, vector)),
target (pk, image) AS MATERIALIZED ({targets} {lock}),
mine AS MATERIALIZED (
    SELECT held.id, made.object_id, made.key, made.vector, target.pk FROM {attempts} AS held
    JOIN made USING (object_id, token) JOIN target ON target.pk::text = made.object_id AND target.image = made.image
    WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED),
finished AS (DELETE FROM {attempts} WHERE id IN (SELECT id FROM mine) RETURNING id)
UPDATE {table} AS owner SET {vector} = mine.vector::halfvec, {key} = mine.key
FROM mine WHERE owner.{pk} = mine.pk RETURNING mine.object_id
"""


def write(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16]) -> set[str]:
    """Write vectors and keys of the claims that still hold and whose row still has the picture that was read.

    ``vectors``: ``(len(claimed), field.dimensions)``. Returns the object ids that were written. Rows that are locked by
    someone else are left alone (their claim stays), so that a shop's own transaction can never deadlock with this one.
    """
    return (_write_own if field.link is None else write_companions)(field, claimed, vectors)


def _write_own(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16]) -> set[str]:
    connection = connections[router.db_for_write(field.model)]
    quote, opts = connection.ops.quote_name, field.model._meta
    rows = targets(field).filter(pk__in=[c.picture.object_id for c in claimed]).order_by("pk")
    rows_sql, params = compile_query(rows.values_list("pk", "visual_image"), connection.alias)
    sql = WRITE.format(
        targets=rows_sql,
        lock=LOCK,
        attempts=quote(IndexingAttempt._meta.db_table),
        table=quote(opts.db_table),
        vector=quote(field.column),
        key=quote(opts.get_field(field.key_name).column),
        pk=quote(opts.pk.column),
    )
    pictures = [c.picture for c in claimed]
    made = (
        [picture.object_id for picture in pictures],
        [c.token for c in claimed],
        [picture.image for picture in pictures],
        [picture.key for picture in pictures],
        " ".join(map(halfvec_text, vectors)),  # an array's elements would be quoted one by one
    )
    # The one statement is a transaction of its own; inside of another, it must not spoil that one.
    with transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext():
        [rows] = execute_together(connection, [(sql, (*made, *params, field.label))])
    return {row[0] for row in rows}


def clear(field: EmbeddingField, keys: list[Any]) -> int:
    """Remove the vectors of rows whose picture was cleared. ``keys``: primary keys of the rows that had the picture."""
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
    return rows.select_for_update(skip_locked=True, no_key=True)
