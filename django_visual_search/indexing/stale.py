"""Which vectors are not those of their pictures: one comparison in SQL, true at any time.

Makes current vectors count as stale: for pictures replaced under the same name, and for ``--force``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models, router, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.keys import marked
from ..models import IndexingAttempt
from ..spaces import features
from ..spaces.heads import wanted_embedding_key


def targets(field: EmbeddingField) -> QuerySet[Any]:
    """All rows that have a picture column for this field, annotated with ``visual_image`` (its name, never NULL) and
    ``visual_wanted`` (the key its vector should have)."""
    text = models.TextField()
    name = models.functions.Coalesce(
        Cast(field.image_field.name, text), Value("", output_field=text), output_field=text
    )
    rows = field.target_model._base_manager.using(router.db_for_write(field.model))
    return rows.annotate(
        visual_image=name,
        visual_wanted=Concat(Value(wanted_embedding_key(field, "")), name, output_field=models.TextField()),
    )


def stale(field: EmbeddingField) -> QuerySet[Any]:
    """Rows whose vector is missing, made from another picture or by another extractor, or left over from a cleared one.

    Rows of the model that has the picture (the field's own model, or the one its companion links to).
    """
    rows = targets(field)
    if field.link is None:
        current = Q(**{field.key_name: F("visual_wanted")})
        keyed = _keyed(field)
        return rows.filter((~Q(visual_image="") & (~keyed | ~current)) | (Q(visual_image="") & keyed))
    current_row = Exists(_companions(field).filter(**{field.key_name: OuterRef("visual_wanted")}))
    return rows.filter((~Q(visual_image="") & ~current_row) | (Q(visual_image="") & _keyed(field)))


def outdated(field: EmbeddingField) -> QuerySet[Any]:
    """Stale rows that have a vector all the same: of another picture or of another space."""
    return stale(field).filter(_keyed(field))


def _keyed(field: EmbeddingField) -> Q:
    has_key = Q(**{f"{field.key_name}__isnull": False})
    return has_key if field.link is None else Q(Exists(_companions(field).filter(has_key)))


def _companions(field: EmbeddingField) -> QuerySet[Any]:
    """In a subquery: the rows that hold the outer row's vector."""
    return field.model._base_manager.filter(**{field.link.attname: OuterRef(field.link.target_field.attname)})


SETTLED = Q(state__in=[IndexingAttempt.State.REFUSED, IndexingAttempt.State.QUARANTINED])


def pending(field: EmbeddingField) -> QuerySet[Any]:
    """Stale rows that may be worked on now: not refused, not quarantined, and not claimed by another process."""
    return without(field, SETTLED | Q(leased_until__gt=timezone.now()) | Q(attempts__gte=conf.MAX_ATTEMPTS))


def claimed(field: EmbeddingField) -> QuerySet[Any]:
    """Stale rows that a process works on now, or was working on when it was lost, less than ``LEASE_SECONDS`` ago."""
    running = Q(state=IndexingAttempt.State.RUNNING, leased_until__gt=timezone.now())
    return stale(field).filter(Exists(attempts_at(field).filter(running)))


def without(field: EmbeddingField, condition: Q) -> QuerySet[Any]:
    """Stale rows for which there is no attempt, at the vector that is wanted now, that meets the condition."""
    return stale(field).filter(~Exists(attempts_at(field).filter(condition)))


def attempts_at(field: EmbeddingField) -> QuerySet[IndexingAttempt]:
    """In a subquery of ``stale`` or ``targets``: the attempt at the vector that the outer row should have now."""
    return IndexingAttempt.objects.filter(
        label=field.label, object_id=Cast(OuterRef("pk"), models.TextField()), key=OuterRef("visual_wanted")
    )


LOCK = "FOR NO KEY UPDATE SKIP LOCKED"
"""Appended to the query for ``targets``: against changes of the picture, wherever in a chain of tables it lies; foreign
keys to the rows stay possible."""


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
    owners.update(**{field.key_name: marked(field.key_name)})
