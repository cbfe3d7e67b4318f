"""The dashboard: how far the vectors are, what searches run on, what shoppers do with what they find."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from celery import current_app
from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from ..fields.registry import embedding_fields
from ..indexing.states import State
from ..models import Dashboard, IndexingAttempt
from .coverage import Figures, figures
from .feedback_plot import feedback_plot
from .mixin import VisualSearchAdminMixin
from .read_only import ReadOnlyAdmin
from .versions import BREADCRUMB_LIST

RELOAD_SECONDS = 5
"""While a reindex runs, the page loads anew so often."""
SETTLED = {State.REFUSED, State.QUARANTINED}
"""States of IndexingAttempt too: there the pictures themselves are listed, with the reasons."""


@admin.register(Dashboard)
class DashboardAdmin(ReadOnlyAdmin):
    """A page in place of a list of rows."""

    def get_urls(self) -> list[Any]:
        """Only the page itself: there are no rows to look at."""
        return [url for url in super().get_urls() if str(url.name or "").endswith("_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        found = [figures(field) for field in embedding_fields()]
        running = any(fields.command is not None and fields.command.running for fields in found)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Visual search dashboard"),
            "here": _("Dashboard"),
            "subtitle": None,
            "opts": self.opts,
            "fields": [(fields, self._states(request, fields)) for fields in found],
            "plot": feedback_plot(),
            "inline": current_app.conf.task_always_eager,
            "searches": self._searches(request),
            "reload_seconds": RELOAD_SECONDS if running else None,
            "breadcrumb_list": BREADCRUMB_LIST,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "visual_search/admin/dashboard.html", context)

    def _states(self, request: HttpRequest, fields: Figures) -> list[dict[str, Any]]:
        """Count, share and way to the list for each state; of a bar, so that the parts add up to its width."""
        rows, x = [], 0.0
        for state in State:
            count = fields.counts[state]
            width = 1000 * count / fields.total if fields.total else 0.0
            address = self._list_of(request, fields, state)
            rows.append({"state": state, "count": count, "x": x, "width": width, "address": address})
            x += width
        return rows

    def _list_of(self, request: HttpRequest, fields: Figures, state: State) -> str:
        """Where the pictures, or their products, in this state are listed; empty where the user may not see them."""
        if state in SETTLED and self._may_see(request, IndexingAttempt):
            query = {"label": fields.field.label, "state": state.value}
            return f"{self._address(IndexingAttempt, 'changelist')}?{urlencode(query)}"
        model = fields.field.product_model
        if self._has_mixin(model) and self._may_see(request, model):
            return f"{self._address(model, 'changelist')}?{urlencode({'visual_search': state.value})}"
        return ""

    def _searches(self, request: HttpRequest) -> list[tuple[Any, str]]:
        """(name, address) of the pages on which this user may search by photo."""
        return [
            (model._meta.verbose_name_plural, self.admin_site.get_model_admin(model).visual_search_address)
            for model in apps.get_models()
            if self._has_mixin(model) and self._may_see(request, model)
        ]

    def _has_mixin(self, model: Any) -> bool:
        registered = self.admin_site.is_registered(model)
        return registered and isinstance(self.admin_site.get_model_admin(model), VisualSearchAdminMixin)

    def _may_see(self, request: HttpRequest, model: Any) -> bool:
        registered = self.admin_site.is_registered(model)
        return registered and self.admin_site.get_model_admin(model).has_view_or_change_permission(request)

    def _address(self, model: Any, page: str) -> str:
        opts = model._meta
        try:
            return reverse(f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_{page}")
        except NoReverseMatch:
            return ""
