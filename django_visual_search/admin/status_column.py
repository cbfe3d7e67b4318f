"""How the admin shows a product's status: ``badge``, in the list and on the product's page, and ``StatusFilter``.

``indexing.status`` finds the status and has the states and reasons in words; ``mixin`` adds the column and the filter.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, gettext_lazy

from ..indexing.status import ProductStatus, State, in_state

REASON_LENGTH = 90
"""Longest reason shown in the list, in characters; the tooltip shows it in full."""
NEEDS_ACTION = {State.REFUSED, State.QUARANTINED}
"""States that need an action: the list shows their reason."""


def badge(status: ProductStatus, *, in_full: bool = False) -> SafeString:
    """Return a coloured word, how many pictures it is about, and why. ``in_full``: the whole reason of any state."""
    state, reason = status.state, status.reason
    count = status.counts[state]
    label = state.label
    if status.pictures > 1 and count < status.pictures:
        label = gettext("%(state)s, %(count)d of %(total)d") % {
            "state": label,
            "count": count,
            "total": status.pictures,
        }
    short = Truncator(reason).chars(REASON_LENGTH) if state in NEEDS_ACTION or not status.pictures else ""
    shown = reason if in_full else short
    return format_html(
        '<span class="visual-search-status visual-search-{}" title="{}">{}</span>{}',
        state.value,
        reason,
        label,
        format_html('<span class="visual-search-reason" title="{}">{}</span>', reason, shown) if shown else "",
    )


class StatusFilter(admin.SimpleListFilter):
    title = gettext_lazy("visual search")
    parameter_name = "visual_search"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(state.value, state.label) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return in_state(queryset, State(value)) if value in set(State) else queryset
