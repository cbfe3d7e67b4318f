"""What state the vector of each picture is in, as SQL: the status column, its filter and the dashboard all ask this."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.db import models
from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Cast, Concat, JSONObject
from django.utils.translation import gettext_lazy as _

from ..fields import EmbeddingField
from ..models import IndexingAttempt
from ..search.candidates import product_pk
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
