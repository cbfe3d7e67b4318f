"""Pictures that could not be embedded, with the reasons; an action tries them again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy, ngettext

from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..indexing.states import pictures
from ..models import IndexingAttempt
from .products import Key, primary_key
from .reindexing import MOST_SENT, Sent, send, tell
from .rows_of_products import ReadOnly

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
        return row.key.partition(":")[2]


def _by_field(rows: Iterable[IndexingAttempt]) -> dict[EmbeddingField, list[IndexingAttempt]]:
    """The rows of each embedding field that there still is."""
    found = defaultdict(list)
    for row in rows:
        try:
            found[get_field(row.label)].append(row)
        except LookupError:
            continue
    return found
