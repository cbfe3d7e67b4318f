"""Embedding pictures again on request, and the table of pictures that could not be embedded.

``embed_again`` marks pictures as stale in the database at once, then sends a bounded number to the workers; the sweep
embeds the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any

from celery import current_app
from django.contrib import admin, messages
from django.db import connections, router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..conf import conf
from ..db.rows import key_text
from ..fields import EmbeddingField
from ..fields.keys import split_key
from ..fields.registry import get_field
from ..indexing import mark_stale
from ..indexing.publishing import enqueue
from ..indexing.stale import batched
from ..indexing.status import picture_states, reason_in_words
from ..models import IndexingAttempt
from ..tasks import embed
from .base import FieldFilter, RecordAdmin, label_name
from .batches import MOST_LISTED, batch_page, batch_url, keep_batch, outcome_of
from .products import ProductKey, primary_key

MARKED_TOGETHER = 500
"""Pictures that one statement marks."""
MOST_RESENT = 2000
"""Most pictures that one request sends to the queue; pictures that the shop saves meanwhile wait behind them."""


@dataclass
class Resent:
    """Numbers of pictures that were marked, and of those sent to the workers. The sweep finds the others."""

    pictures: int = 0
    sent: int = 0
    refused_by_broker: bool = False
    keys: dict[str, list[str]] = dataclass_field(default_factory=dict)
    """Primary keys by the field's label, of the first ``batches.MOST_LISTED`` pictures."""


def embed_again(groups: Iterable[tuple[EmbeddingField, list[Any]]], *, most: int = MOST_RESENT) -> Resent:
    """Mark pictures as stale, with new attempts, and send the first ``most`` of them to the workers.

    ``groups``: a field and primary keys of its pictures, any number of times. Inside a transaction the pictures are
    sent after its commit, and count as sent.
    """
    result = Resent()
    for field, keys in groups:
        for batch in batched(keys, MARKED_TOGETHER):
            mark_stale(field, batch)
        room = max(MOST_LISTED - result.pictures, 0)
        result.pictures += len(keys)
        using = router.db_for_write(field.model)
        listed = result.keys.setdefault(field.label, [])
        listed += [key_text(field.target_model, key, using) for key in keys[:room]]
        first = [str(key) for key in keys[: max(most - result.sent, 0)]]
        if connections[using].in_atomic_block:
            transaction.on_commit(partial(_send_again, field, first), using=using, robust=True)
            result.sent += len(first)
        else:
            sent = _send_again(field, first)
            result.sent += sent
            result.refused_by_broker = result.refused_by_broker or sent < len(first)
    return result


def _send_again(field: EmbeddingField, keys: list[str]) -> int:
    """Return how many pictures the broker took."""
    sent = 0
    for batch in batched(keys, conf.BATCH_SIZE):
        if not enqueue(embed, field.label, list(batch)):
            break
        sent += len(batch)
    return sent


def show_resent(request: HttpRequest, result: Resent, admin_name: str = "admin") -> None:
    """Show the result as a message of the admin, with a link to the page that follows the pictures."""
    batch = keep_batch({label: keys for label, keys in result.keys.items() if keys}, result.pictures)
    more = ""
    if current_app.conf.task_always_eager:
        more = outcome_of(batch).in_words()
        text = ngettext(
            "%(count)d picture was processed right away.",
            "%(count)d pictures were processed right away.",
            result.sent,
        )
    else:
        text = ngettext(
            "%(count)d picture was sent to be embedded again.",
            "%(count)d pictures were sent to be embedded again.",
            result.sent,
        )
    sentences = [text % {"count": result.sent}] if result.sent else []
    if result.refused_by_broker:
        sentences.append(_("The message broker does not answer."))
    if left := result.pictures - result.sent:
        text = ngettext(
            "%(count)d picture is marked, and the next sweep embeds it (one is due every %(seconds)d seconds).",
            "%(count)d pictures are marked, and the next sweep embeds them (one is due every %(seconds)d seconds).",
            left,
        )
        sentences.append(text % {"count": left, "seconds": conf.SWEEP_SECONDS})
    level = messages.WARNING if result.refused_by_broker else messages.SUCCESS
    if more:
        sentences.append(f"{capfirst(more)}.")
    text, url = " ".join(sentences), batch_url(admin_name, batch)
    if url:
        text = format_html('{} <a href="{}">{}</a>', text, url, _("See their states"))
    messages.add_message(request, level, text, fail_silently=True)


KEY_ATTRIBUTE = "_visual_search_key"


@admin.register(IndexingAttempt)
class IndexingAttemptAdmin(RecordAdmin):
    list_display = ["product", "status", "reason", "updated_at"]
    list_display_links = ["status"]  # the product leads to its own page
    list_filter = ["state", FieldFilter, "code"]
    search_fields = ["=object_id", "message"]
    ordering = ["-updated_at"]
    actions = ["retry"]
    fields = ["product", "embedding_field", "image", "state", "code", "sentence", "attempts", "updated_at"]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry pictures: the permission to change attempts."""
        return bool(request.user.has_perm("django_visual_search.change_indexingattempt"))

    def get_urls(self) -> list[Any]:
        page = self.admin_site.admin_view(self.batch_view)
        return [path("batch/<int:pk>/", page, name="django_visual_search_indexingattempt_batch"), *super().get_urls()]

    def batch_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the page that follows the pictures of one action."""
        return batch_page(self, request, pk)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # A running attempt needs no attention.
        return super().get_queryset(request).exclude(state=IndexingAttempt.State.RUNNING)

    def prepare(self, rows: list[Any]) -> None:
        """Look up the pictures' products: one query for each embedding field."""
        for field, attempts in _by_field(rows).items():
            keys = [primary_key(field.target_model, row.object_id) for row in attempts]
            found = picture_states(field).filter(pk__in=[key for key in keys if key is not None])
            using = router.db_for_write(field.model)
            products = {
                key_text(field.target_model, pk, using): product
                for pk, product in found.values_list("pk", "_visual_product")
            }
            for row in attempts:
                product = products.get(row.object_id)
                setattr(row, KEY_ATTRIBUTE, None if product is None else (field.product_model, str(product)))

    def product_keys(self, row: IndexingAttempt) -> Iterable[ProductKey | None]:
        return [getattr(row, KEY_ATTRIBUTE, None)]

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry selected pictures"))
    def retry(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = list(queryset)
        by_field = _by_field(rows)
        result = embed_again(
            (field, [key for row in attempts if (key := primary_key(field.target_model, row.object_id)) is not None])
            for field, attempts in by_field.items()
        )
        if result.pictures:
            show_resent(request, result, self.admin_site.name)
        if gone := len(rows) - sum(map(len, by_field.values())):
            text = ngettext(
                "%(count)d picture is of an embedding field that no longer exists.",
                "%(count)d pictures are of an embedding field that no longer exists.",
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
            '<span class="visual-search-message">{} <code>{}</code><br><span class="quiet">{}</span></span>',
            reason_in_words(row.code, row.message),
            row.code,
            label_name(row.label),
        )

    @admin.display(description=gettext_lazy("message"))
    def sentence(self, row: IndexingAttempt) -> SafeString:
        """Return the reason in words, with the stored message where it says more."""
        said = reason_in_words(row.code, row.message)
        stored = format_html('<br><span class="quiet" lang="en" dir="ltr">{}</span>', row.message)
        return format_html("{}{}", said, "" if said in (row.message, _(row.message)) else stored)

    @admin.display(description=gettext_lazy("picture"))
    def image(self, row: IndexingAttempt) -> str:
        """Return the picture's name in its storage."""
        return split_key(row.key)[1]


def _by_field(rows: Iterable[IndexingAttempt]) -> dict[EmbeddingField, list[IndexingAttempt]]:
    """Return the rows of each embedding field that exists."""
    found = defaultdict(list)
    for row in rows:
        try:
            found[get_field(row.label)].append(row)
        except LookupError:
            continue
    return found
