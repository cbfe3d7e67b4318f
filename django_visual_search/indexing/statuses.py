"""The status of products: the worst state of their pictures, with counts and reasons, for a page of them at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import reduce
from operator import or_
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from ..fields import EmbeddingField
from ..fields.registry import fields_of_product
from ..models import IndexingAttempt
from ..spaces.heads import wanted_key
from .states import NO_PICTURE, State, pictures, with_attempts

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
        return self.reasons.get(self.state, "") if self.pictures else _("There is no picture.")


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
        current = wanted_key(field)
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
        return _("It is being embedded now.")
    if attempt and attempt["message"]:
        if tried == IndexingAttempt.State.FAILED:
            return _("The last attempt failed and will be repeated: %(message)s") % {"message": attempt["message"]}
        return str(attempt["message"])
    if not image:
        return _("The picture was removed; its vector goes with the next sweep.")
    if key is None:
        return _("It waits to be embedded.")
    if not key.startswith(f"{extractor_key}:"):
        return _("Its vector is by another extractor, and waits to be made again.")
    return _("The picture was replaced, or is to be embedded again.")


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
