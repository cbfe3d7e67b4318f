"""The report: reasons with counts, and the products of each, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Model, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.registry import embedding_fields, fields_of_product
from ..indexing.statuses import statuses
from ..models import FindabilityFinding, IndexingRun, ServingSpace
from ..spaces.heads import wanted_extractor
from .drowned import TOP
from .live import unfound
from .reasons import CHECKED, Reason


@dataclass(frozen=True)
class Row:
    """One product that can't be found, or hardly."""

    product: str
    """Primary key as text."""
    reason: Reason
    text: str
    """Why, in a sentence."""
    other: str = ""
    """Primary key of the product that is found instead, or has the same picture."""
    image: str = ""
    """Name of the picture that a check looked at."""
    label: str = ""
    """The field of that picture."""
    similarity: float | None = None
    checked_at: datetime | None = None


def last_check(field: EmbeddingField) -> IndexingRun | None:
    runs = IndexingRun.objects.using(router.db_for_write(field.model))
    return runs.filter(label=field.label, kind=IndexingRun.Kind.FINDABILITY).first()


def outdated(field: EmbeddingField, run: IndexingRun) -> bool:
    """Whether the field was switched to other vectors since: what that check found says nothing of these."""
    spaces = ServingSpace.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    return spaces.filter(effective_at__gt=run.started_at, effective_at__lte=timezone.now()).exists()


def product_models() -> list[type[Model]]:
    """The models that searches find, in the order of their fields."""
    return list(dict.fromkeys(field.product_model for field in embedding_fields()))


def totals(model: type[Model], label: str | None = None) -> dict[Reason, int]:
    """How many products of each reason, of all reasons."""
    return {reason: _found(model, reason, label).count() for reason in Reason}


def rows(
    model: type[Model], reason: Reason, start: int = 0, count: int | None = None, *, label: str | None = None
) -> list[Row]:
    """Some of the products with that reason, by primary key."""
    found = _found(model, reason, label)[start : None if count is None else start + count]
    if reason in CHECKED:
        return [_checked(finding) for finding in found]
    keys = list(found.values_list("pk", flat=True))
    told = statuses(model, keys)
    return [Row(str(key), reason, told[key].reason) for key in keys]


def _found(model: type[Model], reason: Reason, label: str | None) -> QuerySet[Any]:
    """Products, or findings."""
    if reason not in CHECKED:
        return unfound(model, reason, label)
    fields = [field for field in fields_of_product(model) if label is None or field.label == label]
    found = FindabilityFinding.objects.filter(reason=reason.value, label__in=[field.label for field in fields])
    if fields:
        found = found.using(router.db_for_read(fields[0].model))
    # Findings of another vector space say nothing of the search as it is.
    return found.filter(extractor_key__in=_spaces(fields)).order_by("label", "product_id", "object_id")


def _spaces(fields: Sequence[Any]) -> set[str]:
    keys = set()
    for field in fields:
        try:
            keys.add(wanted_extractor(field).spec.key)
        except (ExtractorUnavailable, ImproperlyConfigured):
            continue
    return keys


def _checked(finding: FindabilityFinding) -> Row:
    if finding.reason == FindabilityFinding.Reason.DUPLICATE:
        text = _("Its picture is nearly the same as another product's.")
    else:
        text = _("%(failed)d of %(photos)d slightly altered photos of it don't find it among the first %(top)d.") % {
            "failed": finding.failed or 0,
            "photos": finding.photos or 0,
            "top": TOP,
        }
    return Row(
        finding.product_id,
        Reason(finding.reason),
        text,
        finding.other_id,
        finding.image,
        finding.label,
        finding.similarity,
        finding.checked_at,
    )
