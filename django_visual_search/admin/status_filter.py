"""The filter of the shop's product list by status."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..indexing.states import State
from ..indexing.statuses import in_state


class StatusFilter(admin.SimpleListFilter):
    title = _("visual search")
    parameter_name = "visual_search"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(state.value, state.label) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return in_state(queryset, State(value)) if value in set(State) else queryset
