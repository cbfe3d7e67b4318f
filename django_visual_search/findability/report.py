"""The findability report: which products can't be found, or hardly, for which reason, and what to do about it.

``count_unfindable`` counts the products of each reason; ``unfindable_products`` lists them, a page at a time. Products
without a current vector come from the database at any time; drowned products and duplicates from the last check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Case, Count, Model, Q, QuerySet, TextField, Value, When
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..db.rows import all_rows
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.products import searches_itself
from ..fields.registry import embedding_fields, fields_of_product
from ..indexing.status import LABELS, State, has_picture, statuses
from ..models import FindabilityFinding, IndexingRun, RankingRule, ServingSpace
from ..spaces.heads import serving_extractor
from .check import TOP


class Reason(StrEnum):
    """In the order of a report: products that no search finds come first."""

    NO_PICTURE = "no-picture"
    SIZE = "size"
    REFUSED = "refused"
    QUARANTINED = "quarantined"
    MISSING = "missing"
    STALE = "stale"
    DUPLICATE = "duplicate"
    DROWNED = "drowned"

    @property
    def label(self) -> str:
        return str(REASON_LABELS[self])

    @property
    def advice(self) -> str:
        return str(REASON_ADVICE[self])


REASON_LABELS = {
    Reason.NO_PICTURE: _("no picture"),
    Reason.SIZE: _("too small or of an unsuitable size"),
    Reason.REFUSED: LABELS[State.REFUSED],
    Reason.QUARANTINED: LABELS[State.QUARANTINED],
    Reason.MISSING: _("never embedded"),
    Reason.STALE: LABELS[State.STALE],
    Reason.DUPLICATE: _("duplicate picture"),
    Reason.DROWNED: _("drowned by look-alikes"),
}
REASON_ADVICE = {
    Reason.NO_PICTURE: _("Upload a picture."),
    Reason.SIZE: _("Upload a larger picture, or one that is less long and narrow."),
    Reason.REFUSED: _("Save or photograph the picture again."),
    Reason.QUARANTINED: _("Replace the picture, or retry it under Indexing attempts."),
    Reason.MISSING: _("The next sweep embeds it. If it stays here, check that workers and beat are running."),
    Reason.STALE: _("The next sweep embeds it. Until then it is found by its old picture or not at all."),
    Reason.DUPLICATE: _("Another product has the same picture. Photograph each, or keep one and hide the other."),
    Reason.DROWNED: _(
        "A photo of it finds other products. A clearer picture helps, or a head learned by train_embedding."
    ),
}
CHECKED = (Reason.DUPLICATE, Reason.DROWNED)
"""Reasons that only a check finds; the others are queried for each report."""
SIZE_CODE = "side"
"""The code of ``images.CODES`` for a refusal by size."""
REASON_STATES = {
    Reason.REFUSED: State.REFUSED,
    Reason.QUARANTINED: State.QUARANTINED,
    Reason.MISSING: State.MISSING,
    Reason.STALE: State.STALE,
}
PRECEDENCE = [Reason.QUARANTINED, Reason.REFUSED, Reason.MISSING, Reason.STALE]
"""If a product's pictures have several reasons, the first in this list counts."""


@dataclass(frozen=True)
class Unfindable:
    """One product that can't be found, or hardly."""

    product: str
    """Primary key as text."""
    reason: Reason
    text: str
    """The reason, in a sentence."""
    other: str = ""
    """Primary key of the product that is found instead, or that has the same picture."""
    image: str = ""
    """Name of the picture that was checked."""
    label: str = ""
    """The field of that picture."""
    similarity: float | None = None
    checked_at: datetime | None = None


def count_unfindable(model: type[Model], label: str | None = None) -> dict[Reason, int]:
    """Return how many products each reason applies to."""
    fields, products = _searched(model, label)
    # The shop's own manager may join or group, which is done with when only keys are left.
    plain = all_rows(model, products.db).filter(pk__in=products.order_by().values("pk"))
    reasons = plain.order_by().annotate(_visual_reason=_reason_of(fields)).values_list("_visual_reason")
    counts = dict(reasons.annotate(Count("pk")))
    return {
        reason: _found(model, reason, label).count() if reason in CHECKED else counts.get(reason.value, 0)
        for reason in Reason
    }


def unfindable_products(
    model: type[Model], reason: Reason, start: int = 0, count: int | None = None, *, label: str | None = None
) -> list[Unfindable]:
    """Return ``count`` of the products with that reason from ``start`` on, by primary key."""
    if count == 0:
        return []
    found = _found(model, reason, label)[start : None if count is None else start + count]
    if reason in CHECKED:
        return [_from_finding(finding) for finding in found]
    keys = list(found.values_list("pk", flat=True))
    found_statuses = statuses(model, keys)
    return [Unfindable(str(key), reason, found_statuses[key].reason) for key in keys]


def last_check(field: EmbeddingField) -> IndexingRun | None:
    """Return the run of the field's last check."""
    runs = IndexingRun.objects.using(router.db_for_write(field.model))
    return runs.filter(label=field.label, kind=IndexingRun.Kind.FINDABILITY).first()


def check_is_outdated(field: EmbeddingField, run: IndexingRun) -> bool:
    """Return whether the field was switched to other vectors since that check, so that its findings no longer apply."""
    spaces = ServingSpace.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    return spaces.filter(effective_at__gt=run.started_at, effective_at__lte=timezone.now()).exists()


def product_models() -> list[type[Model]]:
    """Return the models of the products that searches find, in the order of their fields."""
    return list(dict.fromkeys(field.product_model for field in embedding_fields()))


def _found(model: type[Model], reason: Reason, label: str | None) -> QuerySet[Any]:
    """Return the products, or the findings about them."""
    if reason not in CHECKED:
        return without_vector(model, reason, label)
    fields = [field for field in fields_of_product(model) if label is None or field.label == label]
    found = FindabilityFinding.objects.filter(reason=reason.value, label__in=[field.label for field in fields])
    if fields:
        found = found.using(router.db_for_read(fields[0].model))
    hidden = _hidden_products(model)
    found = found.exclude(Q(product_id__in=hidden) | Q(reason=Reason.DUPLICATE.value, other_id__in=hidden))
    # Findings about another vector space don't apply to today's searches.
    return found.filter(extractor_key__in=_spaces(fields)).order_by("label", "product_id", "object_id")


def _hidden_products(model: type[Model]) -> list[str]:
    """Return the keys of the products that staff hide from every search now: nobody looks for those."""
    now, kind = timezone.now(), ContentType.objects.get_for_model(model._meta.concrete_model)
    rules = RankingRule.objects.filter(kind=RankingRule.Kind.HIDE, content_type=kind, attribute="", query_id="")
    rules = rules.filter(Q(starts_at=None) | Q(starts_at__lte=now), Q(ends_at=None) | Q(ends_at__gt=now))
    return list(rules.values_list("object_id", flat=True))


def _spaces(fields: Sequence[Any]) -> set[str]:
    """Return the vector spaces that searches use now."""
    keys = set()
    for field in fields:
        try:
            keys.add(serving_extractor(field).spec.key)
        except (ExtractorUnavailable, ImproperlyConfigured):
            continue
    return keys


def _from_finding(finding: FindabilityFinding) -> Unfindable:
    if finding.reason == FindabilityFinding.Reason.DUPLICATE:
        text = gettext("Its picture is nearly the same as another product's.")
    else:
        text = gettext(
            "%(failed)d of %(photos)d slightly altered photos of it don't find it among the first %(top)d."
        ) % {
            "failed": finding.failed or 0,
            "photos": finding.photos or 0,
            "top": TOP,
        }
    return Unfindable(
        finding.product_id,
        Reason(finding.reason),
        text,
        finding.other_id,
        finding.image,
        finding.label,
        finding.similarity,
        finding.checked_at,
    )


# Products without a current vector


def without_vector(model: type[Model], reason: Reason, label: str | None = None) -> QuerySet[Any]:
    """Return the products that have no current vector for that reason, by primary key; a product has one such reason.

    A product with several pictures is found as long as one of them has its vector. ``label``: by that field alone;
    else by all fields of the model's products.
    """
    fields, products = _searched(model, label)
    products = products.order_by("pk")
    if reason is Reason.NO_PICTURE:
        return products.filter(~has_picture(fields, list(State)))
    rank = PRECEDENCE.index(Reason.REFUSED if reason is Reason.SIZE else reason)
    others = [State.CURRENT, *(REASON_STATES[other] for other in PRECEDENCE[:rank])]
    found = products.filter(_has_reason(fields, reason) & ~has_picture(fields, others))
    return found.filter(~_has_reason(fields, Reason.SIZE)) if reason is Reason.REFUSED else found


def _searched(model: type[Model], label: str | None) -> tuple[list[EmbeddingField], QuerySet[Any]]:
    """Return the fields to report on, and the products that are found as themselves."""
    fields = [field for field in fields_of_product(model) if label is None or field.label == label]
    # A variant is found as its parent, and so is listed as that.
    itself = reduce(or_, (searches_itself(field) for field in fields), Q())
    return fields, model._default_manager.filter(itself)


def _has_reason(fields: list[EmbeddingField], reason: Reason) -> Q:
    """Match products that have a picture without a vector for that reason."""
    if reason is Reason.SIZE:
        return has_picture(fields, [State.REFUSED], code=SIZE_CODE)
    return has_picture(fields, [REASON_STATES[reason]])


def _reason_of(fields: list[EmbeddingField]) -> Case:
    """Return an expression for a product's reason to have no current vector, as ``without_vector``; NULL for none."""
    several = [Reason.QUARANTINED, Reason.SIZE, *PRECEDENCE[1:]]
    return Case(
        When(has_picture(fields, [State.CURRENT]), then=Value(None)),
        *(When(_has_reason(fields, reason), then=Value(reason.value)) for reason in several),
        default=Value(Reason.NO_PICTURE.value),
        output_field=TextField(),
    )
