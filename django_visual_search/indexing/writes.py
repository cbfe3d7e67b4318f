"""Writing vectors: compare-and-set on the picture they were made from, in bulk."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.db import connections, router, transaction
from numpy.typing import NDArray

from ..fields import EmbeddingField
from ..models import IndexingAttempt
from ..vectors import halfvec_text
from .claims import Claim
from .stale import targets


def write(field: EmbeddingField, claimed: list[Claim], vectors: NDArray[np.float32]) -> set[str]:
    """Write vectors and keys of the claims that still hold and whose row still has the picture that was read.

    ``vectors``: ``(len(claimed), field.dimensions)``. Returns the object ids that were written. Rows that are locked by
    someone else are left alone (their claim stays), so that a shop's own transaction can never deadlock with this one.
    """
    using = router.db_for_write(field.model)
    with transaction.atomic(using=using):
        rows = _unchanged(field, claimed, using)
        mine = _finish(field, [c for c in claimed if c.picture.object_id in rows], using)
        chosen = [(c, vector) for c, vector in zip(claimed, vectors, strict=True) if c.picture.object_id in mine]
        if chosen and field.link is None:
            _update(field, chosen, rows, using)
        elif chosen:
            _upsert(field, chosen, rows, using)
    return mine


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


def _unchanged(field: EmbeddingField, claimed: list[Claim], using: str) -> dict[str, Any]:
    """Lock the rows that have the pictures; object id -> (primary key, what a companion's link refers to)."""
    wanted = {c.picture.object_id: c.picture.image for c in claimed}
    to_python = field.target_model._meta.pk.to_python
    link_target = field.link.target_field.attname if field.link else "pk"
    rows = targets(field).filter(pk__in=[to_python(key) for key in wanted]).order_by("pk")
    found = list(_locked(rows).values_list("pk", link_target, "visual_image"))
    busy = _busy_companions(field, [linked for _, linked, _ in found], using)
    return {str(pk): (pk, linked) for pk, linked, image in found if wanted[str(pk)] == image and linked not in busy}


def _busy_companions(field: EmbeddingField, linked: list[Any], using: str) -> set[Any]:
    """Companions that someone else has locked, as Django's cascade does before it deletes the picture's row."""
    if field.link is None:
        return set()
    owners = field.model._base_manager.using(using).filter(**{f"{field.link.attname}__in": linked})
    known = set(owners.values_list(field.link.attname, flat=True))
    return known - set(_locked(owners.order_by("pk")).values_list(field.link.attname, flat=True))


def _locked(rows: Any) -> Any:
    """Lock against changes of the picture, wherever in a chain of tables it lies; foreign keys to it stay possible."""
    return rows.select_for_update(skip_locked=True, no_key=True)


def _finish(field: EmbeddingField, claimed: list[Claim], using: str) -> set[str]:
    """End the claims that are still ours. Whoever claimed or marked the picture since has a newer right to write."""
    connection = connections[using]
    table = connection.ops.quote_name(IndexingAttempt._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT held.id FROM {table} AS held "
            "JOIN unnest(%s::text[], %s::uuid[]) AS mine (object_id, token) USING (object_id, token) "
            "WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED) RETURNING object_id",
            [[c.picture.object_id for c in claimed], [c.token for c in claimed], field.label],
        )
        return {row[0] for row in cursor.fetchall()}


def _update(field: EmbeddingField, chosen: list[tuple[Claim, Any]], rows: dict[str, Any], using: str) -> None:
    connection = connections[using]
    quote = connection.ops.quote_name
    opts = field.model._meta
    key = opts.get_field(field.key_name)
    pk_type = opts.pk.rel_db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {quote(opts.db_table)} AS owner SET {quote(field.column)} = made.vector::halfvec, "
            f"{quote(key.column)} = made.key FROM unnest(%s::text[], %s::text[], %s::text[]) AS made (pk, vector, key) "
            f"WHERE owner.{quote(opts.pk.column)} = made.pk::{pk_type}",
            [
                [str(rows[c.picture.object_id][0]) for c, _ in chosen],
                [halfvec_text(vector) for _, vector in chosen],
                [c.picture.key for c, _ in chosen],
            ],
        )


def _upsert(field: EmbeddingField, chosen: list[tuple[Claim, Any]], rows: dict[str, Any], using: str) -> None:
    assert field.link is not None
    companions = [
        field.model(
            **{
                field.link.attname: rows[claimed.picture.object_id][1],
                field.name: vector.tolist(),
                field.key_name: claimed.picture.key,
            }
        )
        for claimed, vector in chosen
    ]
    field.model._base_manager.using(using).bulk_create(
        companions, update_conflicts=True, update_fields=[field.name, field.key_name], unique_fields=[field.link.name]
    )
