"""Writing vectors to companion rows, which are made here where they are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.db import transaction
from numpy.typing import NDArray

from ..db.statements import execute_together
from ..models import IndexingAttempt
from .claims import Claim
from .lookups import LOCK, Lookups


def write_companions(lookups: Lookups, claimed: list[Claim], vectors: NDArray[np.float16]) -> set[str]:
    """As ``writes.write``, for a field whose pictures are in rows that its model links to."""
    with transaction.atomic(using=lookups.connection.alias):
        linked = _unchanged(lookups, claimed)
        mine = _finish(lookups, [c for c in claimed if c.picture.object_id in linked])
        chosen = [(c, vector) for c, vector in zip(claimed, vectors, strict=True) if c.picture.object_id in mine]
        if chosen:
            _upsert(lookups, chosen, linked)
    return mine


def _unchanged(lookups: Lookups, claimed: list[Claim]) -> dict[str, Any]:
    """Lock the rows that have the pictures; object id -> what a companion's link refers to."""
    wanted = {c.picture.object_id: c.picture.image for c in claimed}
    sql, params = lookups.targets.statement(wanted)
    [found] = execute_together(lookups.connection, [(f"{sql} {LOCK}", params)])
    busy = _busy(lookups, [linked for _, _, linked in found])
    return {str(pk): linked for pk, image, linked in found if wanted[str(pk)] == image and linked not in busy}


def _busy(lookups: Lookups, linked: list[Any]) -> set[Any]:
    """Companions that someone else has locked, as Django's cascade does before it deletes the picture's row."""
    field = lookups.field
    assert field.link is not None
    owners = field.model._base_manager.using(lookups.connection.alias).filter(**{f"{field.link.attname}__in": linked})
    known = set(owners.values_list(field.link.attname, flat=True))
    free = owners.order_by("pk").select_for_update(skip_locked=True, no_key=True)
    return known - set(free.values_list(field.link.attname, flat=True))


def _finish(lookups: Lookups, claimed: list[Claim]) -> set[str]:
    """End the claims that are still ours. Whoever claimed or marked the picture since has a newer right to write."""
    table = lookups.connection.ops.quote_name(IndexingAttempt._meta.db_table)
    sql = (
        f"DELETE FROM {table} WHERE id IN (SELECT held.id FROM {table} AS held "
        "JOIN unnest(%s::text[], %s::uuid[]) AS mine (object_id, token) USING (object_id, token) "
        "WHERE held.label = %s FOR UPDATE OF held SKIP LOCKED) RETURNING object_id"
    )
    tokens = [c.picture.object_id for c in claimed], [c.token for c in claimed], lookups.field.label
    [rows] = execute_together(lookups.connection, [(sql, tokens)])
    return {row[0] for row in rows}


def _upsert(lookups: Lookups, chosen: list[tuple[Claim, Any]], linked: dict[str, Any]) -> None:
    field = lookups.field
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
    field.model._base_manager.using(lookups.connection.alias).bulk_create(
        companions, update_conflicts=True, update_fields=[field.name, field.key_name], unique_fields=[field.link.name]
    )
