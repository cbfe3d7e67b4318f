"""The state of each picture's vector, as SQL, and of products: counts and reasons for a page of them at once.

Entry functions: ``picture_states`` for rows that have pictures, ``statuses`` and ``in_state`` for products. The status
column of the admin, its filter, the dashboard and the findability report all ask here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models, router
from django.db.models import Case, Exists, F, Model, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Cast, Concat, JSONObject
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..fields.keys import SELF, split_key
from ..fields.products import first_of, has_variants, key_path, product_pk, searched_pk, with_product
from ..fields.registry import fields_of_product
from ..images.options import BROKEN_PICTURE, EMPTY_FILE
from ..models import IndexingAttempt
from ..spaces.heads import serving_extractor_key
from .stale import attempts_at, targets


class State(StrEnum):
    """The state of a picture's vector, from best to worst; of a product, the worst of its pictures'.

    STALE has a vector that isn't the right one, MISSING has none; ``stale.stale`` finds both.
    """

    CURRENT = "current"
    STALE = "stale"
    MISSING = "missing"
    REFUSED = "refused"
    QUARANTINED = "quarantined"

    @property
    def label(self) -> str:
        return str(LABELS[self])


ATTEMPT_LABELS = dict(IndexingAttempt.State.choices)
LABELS = {
    State.CURRENT: _("current"),
    State.STALE: _("stale"),
    State.MISSING: _("missing"),
    State.REFUSED: ATTEMPT_LABELS["refused"],
    State.QUARANTINED: ATTEMPT_LABELS["quarantined"],
}
NO_PICTURE = ""
"""The state of a row whose picture column is empty, and that has no vector either."""
WORST_FIRST = list(reversed(State))


def picture_states(field: EmbeddingField) -> QuerySet[Any]:
    """Return the rows that have the field's pictures (``stale.targets``), annotated further.

    ``_visual_product``: the product's primary key; ``_visual_key``: the key of the vector that exists, or NULL;
    ``_visual_state``: a State, or NO_PICTURE.
    """
    text = models.TextField()
    rows = targets(field).annotate(
        _visual_product=product_of_picture(field),
        _visual_key=_key_expression(field),
        _visual_tried=Concat(Cast("pk", text), Value(" "), F("_visual_wanted"), output_field=text),
    )
    state = Case(
        When(_visual_image="", _visual_key__isnull=True, then=Value(NO_PICTURE)),
        When(~Q(_visual_image="") & Q(_visual_key=F("_visual_wanted")), then=Value(State.CURRENT.value)),
        When(_visual_tried__in=_tried(field, state=State.REFUSED.value), then=Value(State.REFUSED.value)),
        When(_visual_tried__in=_tried(field, state=State.QUARANTINED.value), then=Value(State.QUARANTINED.value)),
        When(_visual_key__isnull=True, then=Value(State.MISSING.value)),
        default=Value(State.STALE.value),
        output_field=text,
    )
    return rows.annotate(_visual_state=state)


def _tried(field: EmbeddingField, **conditions: str) -> QuerySet[Any]:
    """Return the ``_visual_tried`` of all attempts: not correlated, so PostgreSQL reads these few rows once."""
    attempts = IndexingAttempt.objects.filter(label=field.label, **conditions)
    tried = Concat("object_id", Value(" "), "key", output_field=models.TextField())
    return attempts.annotate(tried=tried).values("tried")


def _key_expression(field: EmbeddingField) -> Any:
    if field.link is None:
        return F(field.key_name)
    if not field.link.remote_field.hidden:
        return F(f"{field.link.related_query_name()}__{field.key_name}")
    return Subquery(field.companions().values(field.key_name)[:1])


def product_of_picture(field: EmbeddingField) -> Any:
    """Return an expression for the primary key of a picture's product."""
    if field.link is None:
        return product_pk(field)
    heads, tails = zip(*(path.partition("__")[::2] for path in field.product_paths or (SELF,)), strict=True)
    if set(heads) == {field.link.name}:
        return first_of(field, [F(key_path(tail)) for tail in tails])
    # The companion says by itself which product it belongs to, or is the product.
    companions, product = with_product(field, field.companions())
    return Subquery(companions.values(product)[:1])


@dataclass
class ProductStatus:
    """The states of one product's pictures, over all embedding fields that search it."""

    counts: Counter[str] = dataclass_field(default_factory=Counter)
    """Pictures by State."""
    reasons: dict[str, str] = dataclass_field(default_factory=dict)
    """State -> reason, in a sentence, of the first picture in that state; current ones have none."""

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
    """Return the status of each of these products, by primary key: one query for each embedding field."""
    found = {key: ProductStatus() for key in keys}
    for field in fields_of_product(model) if found else ():
        try:
            asked = _by_searched(field, found)
            rows = _with_attempts(field).filter(_visual_product__in=list(asked))
            rows = rows.exclude(_visual_state=NO_PICTURE).order_by("pk")
        except ImproperlyConfigured as e:
            # Without this column, the list of products still works.
            for status in found.values():
                status.counts[State.STALE] += 1
                status.reasons.setdefault(State.STALE, str(e))
            continue
        extractor_key = serving_extractor_key(field)
        values = rows.values_list("_visual_product", "_visual_state", "_visual_image", "_visual_key", "_visual_attempt")
        for product, state, image, key, attempt in values:
            for one in asked[product]:
                found[one].counts[state] += 1
                if state != State.CURRENT:
                    found[one].reasons.setdefault(state, _reason(image, key, attempt, extractor_key))
    return found


def _by_searched(field: EmbeddingField, keys: Iterable[Any]) -> dict[Any, list[Any]]:
    """Return the products by their searched product; one query where variants have a parent."""
    if not has_variants(field):
        return {key: [key] for key in keys}
    products = all_rows(field.product_model, router.db_for_read(field.model)).filter(pk__in=list(keys))
    found: dict[Any, list[Any]] = {}
    for key, searched in products.order_by().values_list("pk", searched_pk(field)):
        found.setdefault(searched, []).append(key)
    return found


def _with_attempts(field: EmbeddingField) -> QuerySet[Any]:
    """Return ``picture_states`` with ``_visual_attempt``: state, code and message of the attempt at the vector."""
    attempt = attempts_at(field).values(
        as_json=JSONObject(state="state", code="code", message="message", leased_until="leased_until")
    )
    return picture_states(field).annotate(
        _visual_attempt=Case(
            When(_visual_state__in=[State.CURRENT, NO_PICTURE], then=None),
            default=Subquery(attempt[:1]),
            output_field=models.JSONField(),
        )
    )


def _reason(image: str, key: str | None, attempt: dict[str, Any] | None, extractor_key: str) -> str:
    """Return why the picture has no current vector."""
    tried = attempt["state"] if attempt else None
    if attempt and tried == IndexingAttempt.State.RUNNING:
        return gettext("It is being embedded now.")
    if attempt and (said := reason_in_words(attempt["code"], attempt["message"])):
        if tried == IndexingAttempt.State.FAILED:
            return gettext("The last attempt failed and will be repeated: %(message)s") % {"message": said}
        return said
    if not image:
        return gettext("The picture was removed; its vector goes with the next sweep.")
    if key is None:
        return gettext("It waits to be embedded.")
    if split_key(key)[0] != extractor_key:
        return gettext("Its vector is from another extractor, and will be made again.")
    return gettext("The picture was replaced, or is to be embedded again.")


def in_state(products: QuerySet[Any], state: State) -> QuerySet[Any]:
    """Return the products whose status is this: a picture in that state, and none in a worse one."""
    fields = fields_of_product(products.model)
    # A product that has one picture at most is in that picture's state.
    single = len(fields) == 1 and fields[0].product is None
    worse = [] if single else WORST_FIRST[: WORST_FIRST.index(state)]
    condition = has_picture(fields, [state])
    if state is State.MISSING:
        condition |= ~has_picture(fields, list(State))
    return products.filter(condition & ~has_picture(fields, worse) if worse else condition)


def has_picture(fields: Iterable[EmbeddingField], states: list[State], *, code: str = "") -> Q:
    """Match products that have a picture in one of the states; with ``code``, one whose attempt ended with it."""
    found = Q(pk__in=[])
    for field in fields:
        rows = picture_states(field).filter(_visual_product=searched_pk(field, OuterRef), _visual_state__in=states)
        found |= Q(Exists(rows.filter(_visual_tried__in=_tried(field, code=code)) if code else rows))
    return found


ATTEMPT_REASONS = {
    "empty": EMPTY_FILE,
    "too_large": gettext_noop("The file is too large. Save the picture smaller or at a lower quality."),
    "format": gettext_noop("The file is not a picture in an accepted format. Save it as JPEG."),
    "heic": gettext_noop(
        "HEIC photos can't be read here. Send the photo as JPEG, or have django-visual-search[heic] installed."
    ),
    "corrupt": BROKEN_PICTURE,
    "pixels": gettext_noop(
        "The picture is too large to decode. Scale it down, for example to 2000 pixels on the longest side."
    ),
    "side": gettext_noop(
        "The picture is too small, too large or too thin. Use one that is larger, or nearer to a square."
    ),
    "memory": gettext_noop("There was not enough memory for the picture. Scale it down and try again."),
    "time": gettext_noop("Decoding this picture takes too long. Save it again, or smaller."),
    "profile": gettext_noop("The picture's colour profile would take too long to apply. Save the picture in sRGB."),
    "decode_time": gettext_noop("Decoding this picture took too long and was stopped."),
    "decode_crash": gettext_noop(
        "The process that decoded this picture was ended, as where the machine has too little memory."
    ),
    "unsafe_name": gettext_noop("The storage refuses the picture's name."),
    "missing_file": gettext_noop("The storage does not have the picture's file."),
    "storage": gettext_noop("The storage failed."),
    "extractor": gettext_noop("The extractor failed on this picture."),
    "worker_lost": gettext_noop("Each attempt ended with its worker lost. Replace the picture, or retry it."),
}
"""By the attempt's code; shown only where the attempt's own message has no translation.

Attempts keep their message in English, with figures and words of other programs.
"""


def reason_in_words(code: str, message: str) -> str:
    """Return the attempt's message, translated, or else the meaning of its code.

    Where neither is translated, the message as it is.
    """
    if not message:
        return ""
    said = gettext(message)
    if said == message and code in ATTEMPT_REASONS:
        general = gettext(ATTEMPT_REASONS[code])
        return message if general == ATTEMPT_REASONS[code] else general
    return said
