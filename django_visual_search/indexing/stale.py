"""Which vectors are not those of their pictures: one comparison in SQL, true at any time."""

from __future__ import annotations

from typing import Any

from django.db import models, router
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from ..conf import conf
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from ..spaces import heads


def wanted_key(field: EmbeddingField, image_name: str, *, at_any_age: bool = False) -> str:
    """The key that this field's vector has when it is current; ``at_any_age``: see ``serving``."""
    return f"{heads.wanted_key(field, at_any_age=at_any_age)}:{image_name}"


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
        visual_wanted=Concat(Value(f"{heads.wanted_key(field)}:"), name, output_field=models.TextField()),
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
