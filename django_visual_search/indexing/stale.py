"""Which vectors are not those of their pictures: one comparison in SQL, true at any time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db import models, router
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from ..backends import extractor_of
from ..conf import conf
from ..fields import EmbeddingField
from ..models import IndexingAttempt


def wanted_key(field: EmbeddingField, image_name: str) -> str:
    """The key that this field's vector has when it is current."""
    return f"{extractor_of(field).spec.key}:{image_name}"


def targets(field: EmbeddingField) -> QuerySet[Any]:
    """All rows that have a picture column for this field, annotated with ``visual_image`` (its name, never NULL) and
    ``visual_wanted`` (the key its vector should have)."""
    text = models.TextField()
    name = models.functions.Coalesce(Cast(field.image_field.name, text), Value("", output_field=text), output_field=text)
    rows = field.target_model._base_manager.using(router.db_for_write(field.model))
    return rows.annotate(
        visual_image=name,
        visual_wanted=Concat(Value(f"{extractor_of(field).spec.key}:"), name, output_field=models.TextField()),
    )


def stale(field: EmbeddingField) -> QuerySet[Any]:
    """Rows whose vector is missing, made from another picture or by another extractor, or left over from a cleared one.

    Rows of the model that has the picture (the field's own model, or the one its companion links to).
    """
    rows = targets(field)
    if field.link is None:
        key = field.key_name
        current = Q(**{key: F("visual_wanted")})
        keyed = Q(**{f"{key}__isnull": False})
        return rows.filter((~Q(visual_image="") & (~keyed | ~current)) | (Q(visual_image="") & keyed))
    mine = field.model._base_manager.filter(**{field.link.attname: OuterRef(field.link.target_field.attname)})
    current_row = Exists(mine.filter(**{field.key_name: OuterRef("visual_wanted")}))
    keyed_row = Exists(mine.filter(**{f"{field.key_name}__isnull": False}))
    return rows.filter((~Q(visual_image="") & ~current_row) | (Q(visual_image="") & keyed_row))


def pending(field: EmbeddingField) -> QuerySet[Any]:
    """Stale rows that may be worked on now: not refused, not quarantined, and not claimed by another process."""
    settled = Q(state__in=[IndexingAttempt.State.REFUSED, IndexingAttempt.State.QUARANTINED])
    blocked = IndexingAttempt.objects.filter(
        settled | Q(leased_until__gt=timezone.now()) | Q(attempts__gte=conf.MAX_ATTEMPTS),
        label=field.label,
        object_id=Cast(OuterRef("pk"), models.TextField()),
        key=OuterRef("visual_wanted"),
    )
    return stale(field).filter(~Exists(blocked))


def mark_stale(field: EmbeddingField, rows: Iterable[Any] | None = None) -> None:
    """Make current vectors count as stale, and give what was refused or quarantined new attempts; vectors stay searchable.

    ``rows``: primary keys of the rows that have the pictures; None means all. For pictures replaced under the same name, and for
    ``--force``. A worker that is busy with one of them will not write its vector.
    """
    using = router.db_for_write(field.model)
    attempts = IndexingAttempt.objects.using(using).filter(label=field.label)
    owners = field.model._base_manager.using(using).filter(**{f"{field.key_name}__isnull": False})
    if rows is not None:
        keys = list(rows)
        attempts = attempts.filter(object_id__in=[str(key) for key in keys])
        # A companion is found by its link's column, whatever that refers to.
        owners = owners.filter(**{f"{field.link.name}__pk__in" if field.link else "pk__in": keys})
    attempts.delete()
    prefix = models.Func(F(field.key_name), Value(":"), Value(1), function="split_part", output_field=models.TextField())
    # No image has this name, so the key matches none; the extractor's part is kept, so the row can still be found.
    owners.update(**{field.key_name: Concat(prefix, Value(f":?{uuid.uuid4().hex}"), output_field=models.TextField())})
