"""Pictures that staff want embedded again: marked in the database at once, then sent to the workers.

Pictures that could not be embedded, with the reasons; an action tries them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import current_app
from django.contrib import admin, messages
from django.db import connections, router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..conf import conf
from ..fields import EmbeddingField
from ..fields.keys import split_key
from ..fields.registry import get_field
from ..indexing import mark_stale
from ..indexing.claims import batched
from ..indexing.publishing import enqueue
from ..indexing.status import pictures
from ..models import IndexingAttempt
from ..tasks import embed
from .base import ReadOnly
from .products import Key, primary_key

MARKED_TOGETHER = 500
MOST_SENT = 2000
"""Pictures of one request that go to the queue: what a shop saves meanwhile waits behind them. The sweep does more."""


@dataclass
class Sent:
    """What became of a wish to embed pictures again. Those that were not sent are found by the sweep."""

    pictures: int = 0
    sent: int = 0
    refused_by_broker: bool = False

    def add(self, other: Sent) -> None:
        self.pictures += other.pictures
        self.sent += other.sent
        self.refused_by_broker = self.refused_by_broker or other.refused_by_broker


def send(field: EmbeddingField, keys: list[Any], most: int = MOST_SENT) -> Sent:
    """Mark the pictures with these primary keys as stale, with new attempts, and send the first ``most`` of them.

    Inside a transaction they are sent after its commit, and count as sent.
    """
    for batch in batched(keys, MARKED_TOGETHER):
        mark_stale(field, batch)
    using = router.db_for_write(field.model)
    first = [str(key) for key in keys[: max(most, 0)]]
    result = Sent(len(keys))
    publish = partial(_publish, field, first, result)
    if connections[using].in_atomic_block:
        transaction.on_commit(publish, using=using, robust=True)
        result.sent = len(first)
    else:
        publish()
    return result


def _publish(field: EmbeddingField, keys: list[str], result: Sent) -> None:
    result.sent = 0
    for batch in batched(keys, conf.BATCH_SIZE):
        if not enqueue(embed, field.label, list(batch)):
            result.refused_by_broker = True
            return
        result.sent += len(batch)


def tell(request: HttpRequest, result: Sent) -> None:
    """Say what was done as a message of the admin."""
    if current_app.conf.task_always_eager:
        text = ngettext(
            "%(count)d picture was worked on here and now; its status says what came of it.",
            "%(count)d pictures were worked on here and now; their status says what came of it.",
            result.sent,
        )
    else:
        text = ngettext(
            "%(count)d picture was sent to be embedded again.",
            "%(count)d pictures were sent to be embedded again.",
            result.sent,
        )
    said = [text % {"count": result.sent}] if result.sent else []
    left = result.pictures - result.sent
    if result.refused_by_broker:
        said.append(_("The message broker does not answer."))
    if left:
        text = ngettext(
            "%(count)d picture is marked, and the next sweep embeds it (one is due every %(seconds)d seconds).",
            "%(count)d pictures are marked, and the next sweep embeds them (one is due every %(seconds)d seconds).",
            left,
        )
        said.append(text % {"count": left, "seconds": conf.SWEEP_SECONDS})
    level = messages.WARNING if result.refused_by_broker else messages.SUCCESS
    messages.add_message(request, level, " ".join(said), fail_silently=True)


KEPT_KEY = "_visual_search_key"


@admin.register(IndexingAttempt)
class IndexingAttemptAdmin(ReadOnly):
    list_display = ["product", "status", "reason", "updated_at"]
    list_display_links = ["status"]  # the product leads to its own page
    list_filter = ["state", "label", "code"]
    search_fields = ["=object_id", "message"]
    ordering = ["-updated_at"]
    actions = ["retry"]
    fields = ["product", "label", "image", "state", "code", "message", "attempts", "updated_at"]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Who may change attempts may have pictures tried again."""
        return bool(request.user.has_perm("django_visual_search.change_indexingattempt"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # What is being worked on is nothing to be looked after.
        return super().get_queryset(request).exclude(state=IndexingAttempt.State.RUNNING)

    def prepare(self, rows: list[Any]) -> None:
        """From pictures to their products: one query for each embedding field."""
        for field, attempts in _by_field(rows).items():
            keys = [primary_key(field.target_model, row.object_id) for row in attempts]
            found = pictures(field).filter(pk__in=[key for key in keys if key is not None])
            products = {str(pk): product for pk, product in found.values_list("pk", "visual_product")}
            for row in attempts:
                product = products.get(row.object_id)
                setattr(row, KEPT_KEY, None if product is None else (field.product_model, str(product)))

    def keys_of(self, row: IndexingAttempt) -> Iterable[Key | None]:
        return [getattr(row, KEPT_KEY, None)]

    @admin.action(permissions=["retry"], description=gettext_lazy("Try selected pictures again"))
    def retry(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        result, rows = Sent(), list(queryset)
        by_field = _by_field(rows)
        for field, attempts in by_field.items():
            keys = [key for row in attempts if (key := primary_key(field.target_model, row.object_id)) is not None]
            result.add(send(field, keys, MOST_SENT - result.sent))
        if result.pictures:
            tell(request, result)
        if gone := len(rows) - sum(map(len, by_field.values())):
            text = ngettext(
                "%(count)d picture is of an embedding field that is not there any more.",
                "%(count)d pictures are of an embedding field that is not there any more.",
                gone,
            )
            messages.warning(request, text % {"count": gone}, fail_silently=True)

    @admin.display(description=gettext_lazy("product"))
    def product(self, row: IndexingAttempt) -> SafeString | str:
        return self.cell(row, 0, row.object_id)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def status(self, row: IndexingAttempt) -> SafeString:
        return format_html(
            '<span class="visual-search-status visual-search-{}">{}</span>', row.state, row.get_state_display()
        )

    @admin.display(description=gettext_lazy("reason"), ordering="code")
    def reason(self, row: IndexingAttempt) -> SafeString:
        return format_html(
            '<span class="visual-search-told">{} <code>{}</code><br><span class="quiet">{}</span></span>',
            row.message,
            row.code,
            row.label,
        )

    @admin.display(description=gettext_lazy("picture"))
    def image(self, row: IndexingAttempt) -> str:
        """Name of the picture in its storage."""
        return split_key(row.key)[1]


def _by_field(rows: Iterable[IndexingAttempt]) -> dict[EmbeddingField, list[IndexingAttempt]]:
    """The rows of each embedding field that there still is."""
    found = defaultdict(list)
    for row in rows:
        try:
            found[get_field(row.label)].append(row)
        except LookupError:
            continue
    return found
