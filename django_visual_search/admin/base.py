"""Base classes of our pages and tables: read-only admins, pages in place of a list, rows that name products.

Also what several pages share: the progress of a run, names and numbers, and counts that are cached where they take
long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import django
from django.contrib import admin
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..fields import EmbeddingField
from ..fields.registry import embedding_fields, fields_of_product, get_field
from ..models import IndexingRun
from ..storefront.cards import title_of
from .products import ProductKey, load_products, product_cell

BREADCRUMB_LIST = django.VERSION >= (6, 1)
"""Whether the admin's breadcrumbs are a list rather than text with arrows."""


class ReadOnlyAdmin(admin.ModelAdmin):
    """An admin without adding, changing or deleting; Django's permissions decide who may view its rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PageAdmin(ReadOnlyAdmin):
    """A page in place of a list of rows."""

    page_template = ""

    def get_page_context(self, request: HttpRequest) -> dict[str, Any] | HttpResponse:
        """Return the context of the page's template, or a response in place of the page."""
        raise NotImplementedError

    def get_urls(self) -> list[Any]:
        """Return the page's URL alone: a page has no rows."""
        return [url for url in super().get_urls() if str(url.name or "").endswith("_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        context = self.get_page_context(request)
        if isinstance(context, HttpResponse):
            return context
        common = {"subtitle": None, "opts": self.opts, "breadcrumb_list": BREADCRUMB_LIST}
        context = {**self.admin_site.each_context(request), **common, **context, **(extra_context or {})}
        return TemplateResponse(request, self.page_template, context)


PRODUCTS_ATTRIBUTE = "_visual_search_products"


class ProductRowsAdmin(admin.ModelAdmin):
    """Rows that name products; a page of them costs one query for each product model."""

    class Media:
        css = {"all": ["django_visual_search/admin.css"]}

    def product_keys(self, row: Any) -> Iterable[ProductKey | None]:
        """Return the products that a row names."""
        raise NotImplementedError

    def prepare(self, rows: list[Any]) -> None:
        """Look up what ``product_keys`` needs, for a whole page of rows."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        # As a list, so that the page shows the same row objects that get their products here.
        changelist.result_list = list(changelist.result_list)
        self.load_products(request, changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        row = super().get_object(request, *args, **kwargs)
        if row is not None:
            self.load_products(request, [row])
        return row

    def load_products(self, request: HttpRequest, rows: list[Any]) -> None:
        """Load the products that a page of rows name."""
        self.prepare(rows)
        keys = (key for row in rows for key in self.product_keys(row) if key)
        products = load_products(self.admin_site, request, keys)
        for row in rows:
            setattr(row, PRODUCTS_ATTRIBUTE, products)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if context.get("original") is not None:
            context["subtitle"] = self.subtitle_of(context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def subtitle_of(self, row: Any) -> str:
        """Return the heading of the row's own page."""
        return str(row)

    def product_name(self, row: Any, which: int) -> str:
        """Return the name of one of the row's products; its key where the user may not see it, or it is gone."""
        key, product = self._product(row, which)
        return title_of(product) if product is not None else key[1] if key else ""

    def cell(self, row: Any, which: int, missing: Any = "") -> SafeString | str:
        """Return one of the row's products as a cell, or ``missing`` where there is none that the user may see."""
        key, product = self._product(row, which)
        if key is None:
            return str(missing) or str(self.get_empty_value_display())
        return product_cell(self.admin_site, product, str(missing) or key[1])

    def _product(self, row: Any, which: int) -> tuple[ProductKey | None, Any]:
        """Return the key of one of the row's products, and the product if the user may see it."""
        key = list(self.product_keys(row))[which]
        return key, getattr(row, PRODUCTS_ATTRIBUTE, {}).get(key) if key else None


class RecordAdmin(ReadOnlyAdmin, ProductRowsAdmin):
    """Records that staff can only view; commands remove them."""

    list_per_page = 50
    show_full_result_count = False

    @admin.display(description=gettext_lazy("embedding field"))
    def embedding_field(self, row: Any) -> str:
        """Return the row's embedding field in words."""
        return label_name(row.label) if row.label else str(self.get_empty_value_display())


RELOAD_SECONDS = 5
"""Seconds after which a page with a running job reloads itself."""


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run in IndexingRun, as of its last report."""

    run: IndexingRun

    @property
    def processed(self) -> int:
        return self.run.done + self.run.failed

    @property
    def percent(self) -> int | None:
        """None where the pictures were not counted."""
        return min(100, 100 * self.processed // self.run.total) if self.run.total else None

    @property
    def seconds(self) -> float:
        return max((self.run.updated_at - self.run.started_at).total_seconds(), 0.0)

    @property
    def rate(self) -> float:
        """Pictures a second since the start."""
        return self.processed / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> timedelta | None:
        """Time to the end at this rate, or None."""
        if self.run.total is None or not self.rate:
            return None
        return timedelta(seconds=round(max(0, self.run.total - self.processed) / self.rate))

    @property
    def clock(self) -> str | None:
        """The time left as hours, minutes and seconds: ``str(timedelta)`` has words for days."""
        if self.left is None:
            return None
        minutes, seconds = divmod(round(self.left.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def field_name(field: EmbeddingField) -> str:
    """Return an embedding field in words: its products, and by which pictures where those could be others."""
    products = capfirst(field.product_model._meta.verbose_name_plural)
    own = [one for one in fields_of_product(field.product_model) if one.product is None and one.link is None]
    if own == [field]:
        return str(products)
    pictures = field.image_field.verbose_name if field in own else field.target_model._meta.verbose_name_plural
    return _("%(products)s, by %(pictures)s") % {"products": products, "pictures": pictures}


def label_name(label: str) -> str:
    """Return the field of that label in words; the label itself if the field no longer exists."""
    try:
        return field_name(get_field(label))
    except LookupError:
        return label


class FieldFilter(admin.SimpleListFilter):
    """Filter a list by the embedding field, in words."""

    title = gettext_lazy("embedding field")
    parameter_name = "label"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(field.label, field_name(field)) for field in embedding_fields()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(label=self.value()) if self.value() else queryset


def rounded(number: float | None, places: int) -> str:
    return "" if number is None else number_format(round(number, places), places)


SLOW_SECONDS = 0.5
KEPT_TIMES = 20
"""A slow count is cached for this many times its duration."""


def cached_if_slow(key: str, count: Callable[[], Any]) -> Any:
    """Return ``count()``, from Django's cache where counting took more than SLOW_SECONDS a moment ago."""
    key = f"django_visual_search.{key}"
    cached = cache.get(key)
    if cached is not None:
        return cached
    started = time.monotonic()
    value = count()
    seconds = time.monotonic() - started
    if seconds > SLOW_SECONDS:
        cache.set(key, value, seconds * KEPT_TIMES)
    return value
