"""Ends a switch of vector spaces once every vector has moved."""

from __future__ import annotations

from django.db import router, transaction
from django.db.models.functions import Now
from django.utils import timezone

from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace
from ..spaces.serving import forget
from .stale import claimed, pending


def settle(field: EmbeddingField) -> bool:
    """Let the old space go if there is nothing left to be moved out of it. Returns whether a switch ended by that.

    Pictures that can't be embedded (refused, quarantined) don't hold it up: their vectors are not searched any more.
    """
    using = router.db_for_write(field.model)
    open_ones = ServingSpace.objects.using(using).filter(label=field.label, finished_at=None)
    if not open_ones.filter(effective_at__lte=Now()).exists():
        return False
    if pending(field).exists() or claimed(field).exists():
        return False
    with transaction.atomic(using=using):
        row = open_ones.select_for_update().filter(effective_at__lte=Now()).first()
        if row is None:
            return False
        row.finished_at = timezone.now()
        row.save(update_fields=["finished_at"])
        heads = EmbeddingHead.objects.using(using)
        if row.previous_head_id and row.previous_head_id != row.head_id:
            heads.filter(pk=row.previous_head_id).update(state=EmbeddingHead.State.RETIRED)
    forget()
    return True
