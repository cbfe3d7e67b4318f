"""Rows of products that can't be found, for a page of the admin.

The page of products that can't be found: what the database says now, and what the latest check found out.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from celery import current_app
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..fields.registry import fields_of_product, get_field
from ..findability import Reason, last_check, outdated, product_models, rows, running, totals
from ..findability.report import Row
from ..indexing.publishing import enqueue
from ..models import Findability
from ..storefront.cards import thumbnail_of
from ..tasks import check_findability
from .ann_facts import kept_if_slow
from .base import BREADCRUMB_LIST, ReadOnlyAdmin
from .dashboard import Progress
from .products import SIDE, load_products, product_cell


@dataclass(frozen=True)
class Shown:
    """A row as it is printed."""

    row: Row
    product: SafeString
    other: SafeString | str
    picture: str
    """Address of the picture that was checked, where the product's own is another; empty where it isn't known."""


class Rows:
    """All rows of some reasons, for a Paginator: only those of its page are read."""

    def __init__(self, model: type[Model], counts: dict[Reason, int]) -> None:
        self.model = model
        self.counts = counts

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __getitem__(self, wanted: slice) -> list[Row]:
        found: list[Row] = []
        first = 0
        for reason, count in self.counts.items():
            start, stop = max(wanted.start - first, 0), min(wanted.stop - first, count)
            if start < stop:
                found += rows(self.model, reason, start, stop - start)
            first += count
        return found


def shown(site: AdminSite, model: type[Model], page: Page) -> list[Shown]:
    """The rows of a page, with links to the products as far as this admin site has them."""
    found = list(page.object_list)
    products = load_products((model, key) for row in found for key in (row.product, row.other) if key)
    return [
        Shown(
            row,
            product_cell(site, products.get((model, row.product)), row.product),
            product_cell(site, products.get((model, row.other)), row.other) if row.other else "",
            _picture(row),
        )
        for row in found
    ]


def _picture(row: Row) -> str:
    """A small version of the picture that was checked."""
    if not row.image:
        return ""
    try:
        field = get_field(row.label)
    except LookupError:  # not there any more
        return ""
    if field.product is None and field.link is None:
        return ""  # the product's own, which is shown anyway
    image = field.image_field
    return thumbnail_of(image.attr_class(None, image, row.image), 2 * SIDE)


PER_PAGE = 25
RELOAD_SECONDS = 5
"""While a check runs, the page loads anew so often."""
AWAITED_SECONDS = 600
"""So long it does before a check that it has asked for begins: workers may have other work first."""


@admin.register(Findability)
class FindabilityAdmin(ReadOnlyAdmin):
    """A page in place of a list of rows."""

    def has_check_permission(self, request: HttpRequest) -> bool:
        """Who may have products checked."""
        return bool(request.user.has_perm("django_visual_search.check_findability"))

    def get_urls(self) -> list[Any]:
        """Only the page itself: there are no rows to look at."""
        return [url for url in super().get_urls() if str(url.name or "").endswith("_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        models = [model for model in product_models() if self._may_see(request, model)]
        model = next((m for m in models if m._meta.label == request.GET.get("model")), models[0] if models else None)
        if request.method == "POST" and model is not None:
            return self._start(request, model)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Products that can't be found"),
            "here": _("Findability report"),
            "subtitle": None,
            "opts": self.opts,
            "models": [(m._meta.label, _address(model=m._meta.label), m is model) for m in models],
            "breadcrumb_list": BREADCRUMB_LIST,
            **(self._of_model(request, model) if model is not None else {}),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "visual_search/admin/findability.html", context)

    def _of_model(self, request: HttpRequest, model: type[Model]) -> dict[str, Any]:
        name = model._meta.label
        try:
            counts = kept_if_slow(f"findability.{name}", partial(totals, model))
        except ImproperlyConfigured as e:
            return {"problem": str(e)}
        chosen = next((reason for reason in Reason if reason.value == request.GET.get("reason")), None)
        some = {reason: count for reason, count in counts.items() if chosen in (None, reason)}
        paginator = Paginator(Rows(model, some), PER_PAGE)  # type: ignore[arg-type]
        page = paginator.get_page(request.GET.get("p"))
        checks = self._checks(model)
        kept = {"model": name} | ({"reason": chosen.value} if chosen else {})
        return {
            "model": name,
            "reasons": [(r, count, _address(model=name, reason=r.value), r is chosen) for r, count in counts.items()],
            "total": sum(counts.values()),
            "everything": _address(model=name),
            "chosen": chosen,
            "page": page,
            "pages": [
                (number, _address(**kept, p=number) if isinstance(number, int) else "")
                for number in paginator.get_elided_page_range(page.number)
            ],
            "shown": shown(self.admin_site, model, page),
            "checks": checks,
            "may_check": self.has_check_permission(request),
            "inline": current_app.conf.task_always_eager,
            "reload_seconds": RELOAD_SECONDS
            if any((check is not None and check.running) or _awaited(request, check) for _l, check, _o in checks)
            else None,
        }

    def _checks(self, model: type[Model]) -> list[tuple[str, Progress | None, bool]]:
        """The latest check of each field by which the products are found, and whether it was of other vectors."""
        found: list[tuple[str, Progress | None, bool]] = []
        for field in fields_of_product(model):
            run = last_check(field)
            found.append((field.label, run and Progress(run), run is not None and outdated(field, run)))
        return found

    def _start(self, request: HttpRequest, model: type[Model]) -> HttpResponse:
        if not self.has_check_permission(request):
            raise PermissionDenied
        labels = [field.label for field in fields_of_product(model)]
        asked = {}
        # Sent one after another, and none more once the broker didn't take one.
        if current_app.conf.task_always_eager:
            said, level = _("Tasks run inline here: run manage.py findability_report instead."), messages.WARNING
        elif any(map(running, labels)):
            said, level = _("A check is going on already."), messages.WARNING
        elif all(enqueue(check_findability, label) for label in labels):
            said, level = _("The check begins as soon as a worker is free."), messages.SUCCESS
            asked = {"asked": int(time.time())}
        else:
            said, level = _("The message broker does not answer; nothing was started."), messages.ERROR
        messages.add_message(request, level, said, fail_silently=True)
        return HttpResponseRedirect(_address(model=model._meta.label, **asked))

    def _may_see(self, request: HttpRequest, model: type[Model]) -> bool:
        """Whom the admin doesn't let look at products, it doesn't tell about them here either."""
        if not self.admin_site.is_registered(model):
            return bool(request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"))
        return bool(self.admin_site.get_model_admin(model).has_view_or_change_permission(request))


def _awaited(request: HttpRequest, check: Progress | None) -> bool:
    """Whether this page has asked for a check that hasn't begun."""
    try:
        asked = datetime.datetime.fromtimestamp(int(request.GET.get("asked", "")), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return False
    waited = (timezone.now() - asked).total_seconds()
    return 0 <= waited < AWAITED_SECONDS and (check is None or check.run.started_at < asked)


def _address(**query: Any) -> str:
    return f"?{urlencode(query)}"
