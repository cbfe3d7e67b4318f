"""The findability report: products that can't be found, as of now, and the findings of the last check.

Staff may start a check, which a worker runs.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from celery import current_app
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ..fields.keys import file_name
from ..fields.registry import fields_of_product, get_field
from ..findability import (
    Reason,
    check_is_outdated,
    count_unfindable,
    last_check,
    product_models,
    running,
    unfindable_products,
)
from ..findability.report import Unfindable
from ..indexing.publishing import in_background
from ..models import Findability
from ..storefront.cards import thumbnail_of
from ..tasks import check_findability
from .base import RELOAD_SECONDS, PageAdmin, RunProgress, cached_if_slow, field_name
from .duplicates import TWINS, pair_page, pair_url
from .hits import change_url, may_add_rules
from .products import CELL_THUMBNAIL_SIDE, load_products, may_view, product_cell

PER_PAGE = 25
AWAITED_SECONDS = 600
"""Seconds that the page waits for a requested check to begin; workers may be busy."""


@admin.register(Findability)
class FindabilityAdmin(PageAdmin):
    page_template = "visual_search/admin/findability.html"

    def get_urls(self) -> list[Any]:
        return [*super().get_urls(), path("pair/", self.admin_site.admin_view(self.pair_view), name=TWINS)]

    def pair_view(self, request: HttpRequest) -> HttpResponse:
        """Ask which of two products with the same picture to keep."""
        model = next((m for m in product_models() if m._meta.label == request.GET.get("model")), None)
        if model is None:
            raise Http404
        if not self.has_view_permission(request):
            raise PermissionDenied
        return pair_page(self, request, model)

    def has_check_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may start a check."""
        return bool(request.user.has_perm("django_visual_search.check_findability"))

    def get_page_context(self, request: HttpRequest) -> dict[str, Any] | HttpResponse:
        models = [model for model in product_models() if may_view(self.admin_site, request, model)]
        model = next((m for m in models if m._meta.label == request.GET.get("model")), models[0] if models else None)
        if request.method == "POST" and model is not None:
            return self._start(request, model)
        return {
            "title": _("Products that can't be found"),
            "here": _("Findability report"),
            "models": [
                (capfirst(m._meta.verbose_name_plural), _query_string(model=m._meta.label), m is model) for m in models
            ],
            **(self._model_context(request, model) if model is not None else {}),
        }

    def _model_context(self, request: HttpRequest, model: type[Model]) -> dict[str, Any]:
        name = model._meta.label
        try:
            checks = self._checks(model)
            # Counts from before the end of a check would contradict what the page says of it.
            ends = [check.run.finished_at for _l, check, _o in checks if check is not None and check.run.finished_at]
            ended = max(ends).timestamp() if ends else 0
            counts = cached_if_slow(f"findability.{name}.{ended}", partial(count_unfindable, model))
        except ImproperlyConfigured as e:
            return {"problem": str(e)}
        chosen = next((reason for reason in Reason if reason.value == request.GET.get("reason")), None)
        listed = {reason: count for reason, count in counts.items() if chosen in (None, reason)}
        paginator = Paginator(UnfindableList(model, listed), PER_PAGE)  # type: ignore[arg-type]
        page = paginator.get_page(request.GET.get("p"))
        kept = {"model": name} | ({"reason": chosen.value} if chosen else {})
        return {
            "model": name,
            "reasons": [
                (r, count, _query_string(model=name, reason=r.value), r is chosen) for r, count in counts.items()
            ],
            "total": sum(counts.values()),
            "everything": _query_string(model=name),
            "chosen": chosen,
            "page": page,
            "pages": [
                (number, _query_string(**kept, p=number) if isinstance(number, int) else "")
                for number in paginator.get_elided_page_range(page.number)
            ],
            "shown": printed(self.admin_site, request, model, page),
            "checks": checks,
            "may_check": self.has_check_permission(request),
            "reload_seconds": RELOAD_SECONDS
            if any((check is not None and check.run.is_running) or _awaited(request, check) for _l, check, _o in checks)
            else None,
        }

    def _checks(self, model: type[Model]) -> list[tuple[str, RunProgress | None, bool]]:
        """Return each field, in words, with its last check, and whether the vectors have changed since."""
        found: list[tuple[str, RunProgress | None, bool]] = []
        for field in fields_of_product(model):
            run = last_check(field)
            found.append(
                (field_name(field), run and RunProgress(run), run is not None and check_is_outdated(field, run))
            )
        return found

    def _start(self, request: HttpRequest, model: type[Model]) -> HttpResponse:
        if not self.has_check_permission(request):
            raise PermissionDenied
        labels = [field.label for field in fields_of_product(model)]
        requested = {}
        # Sent one after another, until the broker doesn't take one.
        if any(map(running, labels)):
            text, level = _("A check is already running."), messages.WARNING
        elif all(in_background(check_findability, label) for label in labels):
            text, level = _("The check begins as soon as a worker is free."), messages.SUCCESS
            if current_app.conf.task_always_eager:
                text = _("The check has begun, in this process: it ends early if the server is restarted.")
            requested = {"requested": int(time.time())}
        else:
            text, level = _("The message broker does not answer; nothing was started."), messages.ERROR
        messages.add_message(request, level, text, fail_silently=True)
        return HttpResponseRedirect(_query_string(model=model._meta.label, **requested))


def _awaited(request: HttpRequest, check: RunProgress | None) -> bool:
    """Return whether this page has requested a check that hasn't begun."""
    try:
        requested = datetime.datetime.fromtimestamp(int(request.GET.get("requested", "")), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return False
    if not settings.USE_TZ:
        requested = timezone.make_naive(requested)
    waited = (timezone.now() - requested).total_seconds()
    return 0 <= waited < AWAITED_SECONDS and (check is None or check.run.started_at < requested)


def _query_string(**query: Any) -> str:
    return f"?{urlencode(query)}"


# The rows of a page


@dataclass(frozen=True)
class PrintedRow:
    """An unfindable product with what its row in the template needs."""

    row: Unfindable
    product: SafeString
    other: SafeString | str
    picture: str
    """URL of the picture that was checked, where the product's own is another; empty where it is unknown."""
    fixes: list[tuple[str, str]]
    """(label, URL) of what the user may do about it."""


class UnfindableList:
    """All unfindable products with certain reasons, for a Paginator, which reads only its own page's."""

    def __init__(self, model: type[Model], counts: dict[Reason, int]) -> None:
        self.model = model
        self.counts = counts

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __getitem__(self, page: slice) -> list[Unfindable]:
        found: list[Unfindable] = []
        first = 0
        for reason, count in self.counts.items():
            start, stop = max(page.start - first, 0), min(page.stop - first, count)
            if start < stop:
                found += unfindable_products(self.model, reason, start, stop - start)
            first += count
        return found


def printed(site: AdminSite, request: HttpRequest, model: type[Model], page: Page) -> list[PrintedRow]:
    """Return the rows of a page, with links to the products that this admin site has."""
    found = list(page.object_list)
    products = load_products(site, request, ((model, key) for row in found for key in (row.product, row.other) if key))
    return [
        PrintedRow(
            row,
            product_cell(site, products.get((model, row.product)), row.product),
            product_cell(site, products.get((model, row.other)), row.other) if row.other else "",
            _checked_picture(row),
            _fixes(site, request, model, row, products),
        )
        for row in found
    ]


PICTURE_REASONS = {Reason.NO_PICTURE, Reason.REFUSED, Reason.QUARANTINED, Reason.SIZE, Reason.DROWNED}
"""Reasons that another picture removes."""


def _fixes(
    site: AdminSite, request: HttpRequest, model: type[Model], row: Unfindable, products: dict[Any, Model]
) -> list[tuple[str, str]]:
    """Return links to the fix: the product's picture in its form, or the pages that leave one of two twins."""
    product, other = products.get((model, row.product)), products.get((model, row.other))
    model_admin: Any = site.get_model_admin(model) if site.is_registered(model) else None
    if product is None or model_admin is None:
        return []
    found = []
    if row.reason in PICTURE_REASONS and model_admin.has_change_permission(request, product):
        label = _("Add a picture") if row.reason == Reason.NO_PICTURE else _("Replace the picture")
        found.append((label, change_url(site, product) + _input_of(model, row)))
    if row.reason == Reason.DUPLICATE and other is not None:
        if may_add_rules(site, request):
            found.append((_("The same product: keep one"), pair_url(site.name, model, (row.product, row.other))))
        if model_admin.has_delete_permission(request, other):
            name = f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_delete"
            found.append((_("Delete the other one"), reverse(name, args=[quote(other.pk)])))
    return found


def _input_of(model: type[Model], row: Unfindable) -> str:
    """Return the fragment of the picture's input in the product's form; empty where another model has the picture."""
    for field in fields_of_product(model):
        if row.label in ("", field.label) and field.product is None and field.link is None:
            return f"#id_{field.image_field.name}"
    return ""


def _checked_picture(row: Unfindable) -> str:
    """Return the URL of a thumbnail of the picture that was checked."""
    if not row.image:
        return ""
    try:
        field = get_field(row.label)
    except LookupError:  # the field no longer exists
        return ""
    if field.product is None and field.link is None:
        return ""  # the product's own, which its cell shows
    image = field.image_field
    return thumbnail_of(image.attr_class(None, image, file_name(field, row.image)), 2 * CELL_THUMBNAIL_SIDE)
