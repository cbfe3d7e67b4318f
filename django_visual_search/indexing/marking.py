"""Makes current vectors count as stale: for pictures replaced under the same name, and for ``--force``."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db import models, router, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat

from ..fields import EmbeddingField
from ..models import IndexingAttempt
from ..spaces import features

PAGE = 1000


def mark_stale(field: EmbeddingField, rows: Iterable[Any] | None = None) -> None:
    """Make current vectors count as stale, and give what was refused or quarantined new attempts.

    Vectors stay searchable. ``rows``: primary keys of the rows that have the pictures; None means all, page by page. A
    worker that is busy with one of them will not write its vector.
    """
    using = router.db_for_write(field.model)
    attempts = IndexingAttempt.objects.using(using).filter(label=field.label)
    owners = field.model._base_manager.using(using).filter(**{f"{field.key_name}__isnull": False})
    if rows is None:
        attempts.delete()
        _mark_all(field, owners)
        features.forget(field)
        return
    keys = list(rows)
    attempts.filter(object_id__in=[str(key) for key in keys]).delete()
    # A companion is found by its link's column, whatever that refers to.
    _mark(field, owners.filter(**{f"{field.link.name}__pk__in" if field.link else "pk__in": keys}))
    features.forget(field, keys)


def _mark_all(field: EmbeddingField, owners: QuerySet[Any]) -> None:
    """Keeps no row locked for long, and never waits for a lock while it holds another."""
    locked: list[Any] = []
    page = list(owners.order_by("pk").values_list("pk", flat=True)[:PAGE])
    while page:
        with transaction.atomic(using=owners.db):
            found = owners.filter(pk__in=page).select_for_update(skip_locked=True, no_key=True)
            free = list(found.values_list("pk", flat=True))
            _mark(field, owners.filter(pk__in=free))
        locked += set(page) - set(free)
        page = list(owners.filter(pk__gt=page[-1]).order_by("pk").values_list("pk", flat=True)[:PAGE])
    for key in locked:
        _mark(field, owners.filter(pk=key))


def _mark(field: EmbeddingField, owners: QuerySet[Any]) -> None:
    prefix = models.Func(
        F(field.key_name), Value(":"), Value(1), function="split_part", output_field=models.TextField()
    )
    # No image has this name, so the key matches none; the extractor's part is kept, so the row can still be found.
    owners.update(**{field.key_name: Concat(prefix, Value(f":?{uuid.uuid4().hex}"), output_field=models.TextField())})
