"""Products without a current vector, by the reason, as SQL that is true at any time."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Exists, F, Model, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Concat

from ..fields import EmbeddingField
from ..fields.registry import fields_of_product
from ..indexing.states import State, pictures
from ..models import IndexingAttempt
from .reasons import Reason

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
