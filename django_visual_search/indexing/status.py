"""What state the vector of each picture is in, as SQL: the status column, its filter and the dashboard all ask this.

The status of products: the worst state of their pictures, with counts and reasons, for a page of them at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import Case, Exists, F, Model, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Cast, Concat, JSONObject
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..fields import EmbeddingField
from ..fields.keys import split_key
from ..fields.registry import fields_of_product
from ..models import IndexingAttempt
from ..search.candidates import product_pk
from ..spaces.heads import wanted_extractor_key
from .stale import targets


class State(StrEnum):
    """Of a picture's vector; of a product, the worst of its pictures'. From best to worst."""

    CURRENT = "current"
    STALE = "stale"
    MISSING = "missing"
    REFUSED = "refused"
    QUARANTINED = "quarantined"

    @property
    def label(self) -> str:
        return str(LABELS[self])


LABELS = {
    State.CURRENT: _("current"),
    State.STALE: _("stale"),
    State.MISSING: _("missing"),
    State.REFUSED: _("refused"),
    State.QUARANTINED: _("quarantined"),
}
NO_PICTURE = ""
"""The state of a row whose picture column is empty, and that has no vector either."""


def pictures(field: EmbeddingField) -> QuerySet[Any]:
    """The rows that have the field's pictures (``indexing.stale.targets``), annotated further.

    ``visual_product``: the product's primary key; ``visual_key``: the key of the vector that there is, or NULL;
    ``visual_state``: a State, or NO_PICTURE.
    """
    text = models.TextField()
    rows = targets(field).annotate(
        visual_product=_product(field),
        visual_key=_key(field),
        visual_tried=Concat(Cast("pk", text), Value(" "), F("visual_wanted"), output_field=text),
    )
    state = Case(
        When(visual_image="", visual_key__isnull=True, then=Value(NO_PICTURE)),
        When(~Q(visual_image="") & Q(visual_key=F("visual_wanted")), then=Value(State.CURRENT.value)),
        When(visual_tried__in=_tried(field, State.REFUSED), then=Value(State.REFUSED.value)),
        When(visual_tried__in=_tried(field, State.QUARANTINED), then=Value(State.QUARANTINED.value)),
        When(visual_key__isnull=True, then=Value(State.MISSING.value)),
        default=Value(State.STALE.value),
        output_field=text,
    )
    return rows.annotate(visual_state=state)


def _tried(field: EmbeddingField, state: State) -> QuerySet[Any]:
    """What attempts that ended so were at: not correlated, so that PostgreSQL reads these few rows once."""
    ended = IndexingAttempt.objects.filter(label=field.label, state=state.value)
    return ended.annotate(tried=Concat("object_id", Value(" "), "key", output_field=models.TextField())).values("tried")


def with_attempts(rows: QuerySet[Any], field: EmbeddingField) -> QuerySet[Any]:
    """``pictures`` with ``visual_attempt`` too: state, code and message of the attempt that there was."""
    attempt = _attempts(field).values(
        as_json=JSONObject(state="state", code="code", message="message", leased_until="leased_until")
    )
    return rows.annotate(
        visual_attempt=Case(
            When(visual_state__in=[State.CURRENT, NO_PICTURE], then=None),
            default=Subquery(attempt[:1]),
            output_field=models.JSONField(),
        )
    )


def _attempts(field: EmbeddingField) -> QuerySet[IndexingAttempt]:
    """The attempts at the vector that is wanted now."""
    return IndexingAttempt.objects.filter(
        label=field.label, object_id=Cast(OuterRef("pk"), models.TextField()), key=OuterRef("visual_wanted")
    )


def _key(field: EmbeddingField) -> Any:
    if field.link is None:
        return F(field.key_name)
    if not field.link.remote_field.hidden:
        return F(f"{field.link.related_query_name()}__{field.key_name}")
    return Subquery(_companion(field).values(field.key_name)[:1])


def _product(field: EmbeddingField) -> Any:
    """From a picture's row to its product's primary key."""
    if field.link is None:
        return F(product_pk(field))
    head, _sep, rest = (field.product or "").partition("__")
    if head == field.link.name:
        return F(f"{rest}__pk" if rest else "pk")
    # The companion says by itself which product it belongs to, or is the product.
    return Subquery(_companion(field).values(product_pk(field))[:1])


def _companion(field: EmbeddingField) -> QuerySet[Any]:
    assert field.link is not None
    return field.model._base_manager.filter(**{field.link.attname: OuterRef(field.link.target_field.attname)})


WORST_FIRST = [State.QUARANTINED, State.REFUSED, State.MISSING, State.STALE, State.CURRENT]


@dataclass
class ProductStatus:
    """Of one product's pictures, over all embedding fields by which it is found."""

    counts: Counter[str] = dataclass_field(default_factory=Counter)
    """Pictures by State."""
    reasons: dict[str, str] = dataclass_field(default_factory=dict)
    """State -> why, in a sentence, of the first picture in that state; current ones have none."""

    @property
    def state(self) -> State:
        """The worst; MISSING where there is no picture at all."""
        return next((state for state in WORST_FIRST if self.counts[state]), State.MISSING)

    @property
    def pictures(self) -> int:
        return self.counts.total()

    @property
    def reason(self) -> str:
        """Why the worst picture is in its state; empty where all are current."""
        return self.reasons.get(self.state, "") if self.pictures else gettext("There is no picture.")


def statuses(model: type[Model], keys: Iterable[Any]) -> dict[Any, ProductStatus]:
    """The status of each of these products, by primary key: one query for each embedding field."""
    found = {key: ProductStatus() for key in keys}
    for field in fields_of_product(model) if found else ():
        try:
            rows = with_attempts(pictures(field), field).filter(visual_product__in=list(found))
            rows = rows.exclude(visual_state=NO_PICTURE).order_by("pk")
        except ImproperlyConfigured as e:
            # The list of products is worth more than this column.
            for status in found.values():
                status.counts[State.STALE] += 1
                status.reasons.setdefault(State.STALE, str(e))
            continue
        current = wanted_extractor_key(field)
        values = rows.values_list("visual_product", "visual_state", "visual_image", "visual_key", "visual_attempt")
        for product, state, image, key, attempt in values:
            found[product].counts[state] += 1
            if state != State.CURRENT:
                found[product].reasons.setdefault(state, _reason(image, key, attempt, current))
    return found


def _reason(image: str, key: str | None, attempt: dict[str, Any] | None, extractor_key: str) -> str:
    """Why the picture has no current vector."""
    tried = attempt["state"] if attempt else None
    if attempt and tried == IndexingAttempt.State.RUNNING:
        return gettext("It is being embedded now.")
    if attempt and attempt["message"]:
        if tried == IndexingAttempt.State.FAILED:
            return gettext("The last attempt failed and will be repeated: %(message)s") % {
                "message": attempt["message"]
            }
        return str(attempt["message"])
    if not image:
        return gettext("The picture was removed; its vector goes with the next sweep.")
    if key is None:
        return gettext("It waits to be embedded.")
    if split_key(key)[0] != extractor_key:
        return gettext("Its vector is by another extractor, and waits to be made again.")
    return gettext("The picture was replaced, or is to be embedded again.")


def in_state(products: QuerySet[Any], state: State) -> QuerySet[Any]:
    """Those of the products whose status is this: a picture in that state, and none in a worse one."""
    fields = fields_of_product(products.model)
    # A product that has one picture at most is in that picture's state.
    single = len(fields) == 1 and fields[0].product is None
    worse = [] if single else WORST_FIRST[: WORST_FIRST.index(state)]
    condition = _any(fields, [state])
    if state is State.MISSING:
        condition |= ~_any(fields, list(State))
    return products.filter(condition & ~_any(fields, worse) if worse else condition)


def _any(fields: list[EmbeddingField], states: list[State]) -> Q:
    """Whether a product has a picture in one of the states."""
    found = [
        Q(Exists(pictures(field).filter(visual_product=OuterRef("pk"), visual_state__in=states))) for field in fields
    ]
    return reduce(or_, found, Q(pk__in=[]))
