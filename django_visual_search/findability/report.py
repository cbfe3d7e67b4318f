"""Why a product can't be found, or hardly, and what to do about it.

Products without a current vector, by the reason, as SQL that is true at any time.

The report: reasons with counts, and the products of each, a page at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Exists, F, Model, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Concat
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.registry import embedding_fields, fields_of_product
from ..indexing.status import State, pictures, statuses
from ..models import FindabilityFinding, IndexingAttempt, IndexingRun, ServingSpace
from ..spaces.heads import wanted_extractor
from .check import TOP


class Reason(StrEnum):
    """In the order in which a report lists them: what nobody finds at all comes first."""

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
        return str(LABELS[self])

    @property
    def advice(self) -> str:
        return str(ADVICE[self])


LABELS = {
    Reason.NO_PICTURE: _("no picture"),
    Reason.SIZE: _("too small or of an unsuitable size"),
    Reason.REFUSED: _("picture refused"),
    Reason.QUARANTINED: _("quarantined"),
    Reason.MISSING: _("never embedded"),
    Reason.STALE: _("stale"),
    Reason.DUPLICATE: _("duplicate picture"),
    Reason.DROWNED: _("drowned by look-alikes"),
}
ADVICE = {
    Reason.NO_PICTURE: _("Upload a picture."),
    Reason.SIZE: _("Upload a larger picture, or one that is less long and narrow."),
    Reason.REFUSED: _("Save or photograph the picture again."),
    Reason.QUARANTINED: _("Replace the picture, or have it tried again under Indexing attempts."),
    Reason.MISSING: _("The next sweep embeds it; if it stays here, look whether workers and beat run."),
    Reason.STALE: _("The next sweep embeds it; until then it is found by its old picture or not at all."),
    Reason.DUPLICATE: _("Another product has the same picture. Photograph each, or merge the products."),
    Reason.DROWNED: _("A photo of it brings up others. A clearer picture helps, or a head learned by train_embedding."),
}
CHECKED = (Reason.DUPLICATE, Reason.DROWNED)
"""What only a check finds out; the others are asked of the database whenever somebody looks."""


SIZE_CODE = "side"
"""Of ``images.CODES``."""

STATES = {
    Reason.REFUSED: State.REFUSED,
    Reason.QUARANTINED: State.QUARANTINED,
    Reason.MISSING: State.MISSING,
    Reason.STALE: State.STALE,
}
WORSE = [Reason.QUARANTINED, Reason.REFUSED, Reason.MISSING, Reason.STALE]


def unfound(model: type[Model], reason: Reason, label: str | None = None) -> QuerySet[Any]:
    """The products that have no current vector for that reason, by primary key; a product has one such reason.

    A product with several pictures is found as long as one of them has its vector. ``label``: by that field alone;
    else by all that products of the model are found by.
    """
    fields = [f for f in fields_of_product(model) if label is None or f.label == label]
    products = model._default_manager.order_by("pk")
    if reason is Reason.NO_PICTURE:
        return products.filter(~_any(fields, list(State)))
    wanted = _sized(fields) if reason is Reason.SIZE else _any(fields, [STATES[reason]])
    known = Reason.REFUSED if reason is Reason.SIZE else reason
    better = [State.CURRENT, *(STATES[worse] for worse in WORSE[: WORSE.index(known)])]
    found = products.filter(wanted & ~_any(fields, better))
    return found.filter(~_sized(fields)) if reason is Reason.REFUSED else found


def _any(fields: list[EmbeddingField], states: list[State]) -> Q:
    """Whether a product has a picture in one of the states."""
    found = [
        Q(Exists(pictures(field).filter(visual_product=OuterRef("pk"), visual_state__in=states))) for field in fields
    ]
    return reduce(or_, found, Q(pk__in=[]))


def _sized(fields: list[EmbeddingField]) -> Q:
    """Whether a product has a picture that was refused for its size."""
    found = []
    for field in fields:
        refused = IndexingAttempt.objects.filter(
            label=field.label, state=IndexingAttempt.State.REFUSED, code=SIZE_CODE
        ).annotate(tried=Concat(F("object_id"), Value(" "), F("key"), output_field=TextField()))
        rows = pictures(field).filter(visual_product=OuterRef("pk"), visual_state=State.REFUSED)
        found.append(Q(Exists(rows.filter(visual_tried__in=refused.values("tried")))))
    return reduce(or_, found, Q(pk__in=[]))


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
        text = gettext("Its picture is nearly the same as another product's.")
    else:
        text = gettext(
            "%(failed)d of %(photos)d slightly altered photos of it don't find it among the first %(top)d."
        ) % {
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
