"""Write vectors: compare-and-set on the picture that they were made from, in bulk.

Entry functions: ``write`` and ``clear``. Rows are locked before attempts, and rows that someone else has locked are
passed over, so that a shop's own transaction neither waits for this one nor deadlocks with it.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import connections, router, transaction
from numpy.typing import NDArray

from ..db.rows import all_rows, key_reader, keys_from_texts
from ..db.statements import compile_query, halfvec_text
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from .claims import Claim
from .stale import targets


def write(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16]) -> set[str]:
    """Write vectors and keys of the claims that still hold and whose row still has the picture that was read.

    ``vectors``: ``(len(claimed), field.dimensions)``. Companion rows are made where they are missing. Returns the
    object ids that were written. The claims on rows that someone else has locked stay.
    """
    connection = connections[router.db_for_write(field.model)]
    if field.link is not None:
        return _write_companions(field, claimed, vectors, connection)
    # Where a transaction is open already, a savepoint saves it from a vector that the database rejects.
    alone = connection.get_autocommit() and not field.route
    with contextlib.nullcontext() if alone else transaction.atomic(using=connection.alias):
        return _write_rows(field, claimed, vectors, connection)


def clear(field: EmbeddingField, keys: list[Any]) -> int:
    """Remove the vectors of rows whose picture was removed; return how many.

    ``keys``: primary keys of the rows that had the pictures.
    """
    using = router.db_for_write(field.model)
    with transaction.atomic(using=using):
        empty = [row[0] for row in _locked_targets(field, keys).filter(_visual_image="").values_list("pk")]
        owners = all_rows(field.model, using)
        owners = owners.filter(**{f"{field.link.name}__pk__in" if field.link else "pk__in": empty})
        owners = owners.filter(**{f"{field.key_name}__isnull": False})
        free = list(_locked(owners).values_list("pk", flat=True))
        return int(owners.filter(pk__in=free).update(**{field.name: None, field.key_name: None}))


def _locked(rows: Any) -> Any:
    """Lock rows against changes of the picture, wherever in a chain of tables it lies.

    Foreign keys to them stay possible; rows that are locked already are left out. Rows of a view are not locked, as
    those of a materialized one or of one that aggregates can't be: stale vectors are found by comparison.
    """
    if not rows.model._meta.managed and _is_view(rows.model._meta.db_table, rows.db):
        return rows
    return rows.select_for_update(skip_locked=True, no_key=True)


@functools.cache
def _is_view(table: str, using: str) -> bool:
    with connections[using].cursor() as cursor:
        found = connections[using].introspection.get_table_list(cursor)
    return any(one.name == table and one.type == "v" for one in found)


def _locked_targets(field: EmbeddingField, keys: list[Any]) -> Any:
    """Return the ``targets`` with these keys, locked together with the rows that decide their pictures.

    A queryset that locks as it is read; along foreign keys they are locked here and now, as no outer join can be.
    """
    rows = targets(field)
    if not field.route:
        return _locked(rows.filter(pk__in=keys).order_by("pk"))
    own = _locked(all_rows(field.target_model, rows.db).filter(pk__in=keys).order_by("pk"))
    free = {pk for pk, _ in own.values_list("pk", field.route[0].attname)}
    astray = _led_astray(field, list(free), rows.db) if free else set()
    return rows.filter(pk__in=list(free - astray)).order_by("pk")


def _led_astray(field: EmbeddingField, keys: list[Any], using: str) -> set[Any]:
    """Lock the rows between these and their pictures; return the keys of rows with one that someone else has locked.

    Shared locks: workers that write other rows with the same picture don't pass each other over.
    """
    led = all_rows(field.target_model, using).filter(pk__in=keys, **{f"{field.image_path}__isnull": False})
    there = set(led.values_list("pk", flat=True))
    sql, params = compile_query(led.order_by("pk").values_list("pk"), using)
    with connections[using].cursor() as cursor:
        cursor.execute(f"{sql} FOR SHARE SKIP LOCKED", params)
        read = key_reader(field.target_model, using)
        return there - {read(key) for (key,) in cursor.fetchall()}


# One statement: rows are locked, claims ended and vectors written in this order, each from what the one before returns.
WRITE_ROWS = """
WITH made AS MATERIALIZED (
    SELECT * FROM unnest(%s::text[], %s::uuid[], %s::text[], %s::text[], %s::text[])
    AS made (object_id, token, image, vector, key)),
locked (pk, image) AS MATERIALIZED ({rows}{lock}),
ended AS (
    DELETE FROM {attempts} WHERE id IN (
        SELECT held.id FROM {attempts} AS held JOIN made USING (object_id, token)
        JOIN locked ON locked.pk::text = made.object_id AND locked.image = made.image
        WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED)
    RETURNING object_id)
UPDATE {table} AS owner SET {vector} = made.vector::halfvec, {key} = made.key
FROM made JOIN ended USING (object_id) JOIN locked ON locked.pk::text = made.object_id
WHERE owner.{pk} = locked.pk
RETURNING made.object_id
"""


def _write_rows(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16], connection: Any) -> set[str]:
    quote, opts = connection.ops.quote_name, field.model._meta
    pictures = [c.picture for c in claimed]
    keys = keys_from_texts(field.target_model, [picture.object_id for picture in pictures], connection.alias)
    rows = _locked_targets(field, keys) if field.route else targets(field).filter(pk__in=keys).order_by("pk")
    try:
        unchanged, params = compile_query(rows.values_list("pk", "_visual_image"), connection.alias)
    except EmptyResultSet:  # all of them were locked
        return set()
    sql = WRITE_ROWS.format(
        rows=unchanged,
        lock="" if field.route else " FOR NO KEY UPDATE SKIP LOCKED",
        attempts=quote(IndexingAttempt._meta.db_table),
        table=quote(opts.db_table),
        vector=quote(field.column),
        key=quote(opts.get_field(field.key_name).column),
        pk=quote(opts.pk.column),
    )
    made = (
        [picture.object_id for picture in pictures],
        [c.token for c in claimed],
        [picture.image for picture in pictures],
        [halfvec_text(vector) for vector in vectors],
        [picture.key for picture in pictures],
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, (*made, *params, field.label))
        return {object_id for (object_id,) in cursor.fetchall()}


END_CLAIMS = """
DELETE FROM {table} WHERE id IN (
    SELECT held.id FROM {table} AS held JOIN unnest(%s::text[], %s::uuid[]) AS mine (object_id, token)
    USING (object_id, token) WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED)
RETURNING object_id
"""


def _write_companions(
    field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float16], connection: Any
) -> set[str]:
    assert field.link is not None
    link = field.link.attname
    with transaction.atomic(using=connection.alias):
        referred = _lock_unchanged(field, claimed, connection.alias)
        free = [c for c in claimed if c.picture.object_id in referred]
        sql = END_CLAIMS.format(table=connection.ops.quote_name(IndexingAttempt._meta.db_table))
        with connection.cursor() as cursor:
            cursor.execute(sql, ([c.picture.object_id for c in free], [c.token for c in free], field.label))
            ended = {object_id for (object_id,) in cursor.fetchall()}
        companions = [
            field.model(
                **{
                    link: referred[c.picture.object_id],
                    field.name: vector.tolist(),
                    field.key_name: c.picture.key,
                }
            )
            for c, vector in zip(claimed, vectors, strict=True)
            if c.picture.object_id in ended
        ]
        all_rows(field.model, connection.alias).bulk_create(
            companions,
            update_conflicts=True,
            update_fields=[field.name, field.key_name],
            unique_fields=[field.link.name],
        )
    return ended


def _lock_unchanged(field: EmbeddingField, claimed: list[Claim], using: str) -> dict[str, Any]:
    """Lock the rows that still have their pictures, and their companions.

    Returns object id -> value of the companion's link. Left out are rows whose companion someone else has locked, as
    Django's cascade does before it deletes the picture's row.
    """
    assert field.link is not None
    images = {c.picture.object_id: c.picture.image for c in claimed}
    keys = dict(zip(keys_from_texts(field.target_model, images, using), images, strict=True))
    rows = _locked_targets(field, list(keys))
    found = list(rows.values_list("pk", "_visual_image", field.link.target_field.attname))
    unchanged = {keys[pk]: value for pk, image, value in found if images[keys[pk]] == image}
    link = field.link.attname
    companions = all_rows(field.model, using).filter(**{f"{link}__in": list(unchanged.values())})
    existing = set(companions.values_list(link, flat=True))
    busy = existing - set(_locked(companions.order_by("pk")).values_list(link, flat=True))
    return {object_id: value for object_id, value in unchanged.items() if value not in busy}
