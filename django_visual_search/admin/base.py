"""What differs between the Django versions that the admin pages run under.

The base of admins whose rows or pages are only looked at.

What the admins of our own tables share: rows that name products, shown with them; rows that nobody edits by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import django
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from ..storefront.cards import title_of
from .products import Key, load_products, product_cell

BREADCRUMB_LIST = django.VERSION >= (6, 1)
"""Whether the admin's breadcrumbs are a list rather than text with arrows."""


class ReadOnlyAdmin(admin.ModelAdmin):
    """Nobody adds, changes or deletes rows here; who may view them is up to Django's permissions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


KEPT = "_visual_search_products"


class RowsOfProducts(admin.ModelAdmin):
    """Rows that name products; a page of them costs one query for each product model."""

    class Media:
        css = {"all": ["django_visual_search/admin.css"]}

    def keys_of(self, row: Any) -> Iterable[Key | None]:
        """The products that a row names."""
        raise NotImplementedError

    def prepare(self, rows: list[Any]) -> None:
        """Called before ``keys_of``, where rows have to be looked up to know their products."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        # The rows that the list shows must be those that were looked up.
        changelist.result_list = list(changelist.result_list)
        self._look_up(changelist.result_list)
        return changelist

    def _look_up(self, rows: list[Any]) -> None:
        self.prepare(rows)
        found = load_products(key for row in rows for key in self.keys_of(row) if key)
        for row in rows:
            setattr(row, KEPT, found)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if context.get("original") is not None:
            context["subtitle"] = self.subtitle_of(context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def subtitle_of(self, row: Any) -> str:
        """What the row's own page is headed with."""
        return str(row)

    def name(self, row: Any, which: int) -> str:
        """What one of the row's products is called; its key where it is gone, nothing where there is none."""
        key, product = self._named(row, which)
        return title_of(product) if product is not None else key[1] if key else ""

    def cell(self, row: Any, which: int, missing: Any = "") -> SafeString | str:
        """One of the row's products as a cell; ``missing``: what to show where there is none, or it is gone."""
        key, product = self._named(row, which)
        if key is None:
            return str(missing) or str(self.get_empty_value_display())
        return product_cell(self.admin_site, product, str(missing) or key[1])

    def _named(self, row: Any, which: int) -> tuple[Key | None, Any]:
        """One of the row's products: what names it, and the product if it is there."""
        if KEPT not in row.__dict__:  # on the row's own page
            self._look_up([row])
        key = list(self.keys_of(row))[which]
        return key, getattr(row, KEPT).get(key) if key else None


class ReadOnly(ReadOnlyAdmin, RowsOfProducts):
    """Rows that are only looked at; commands remove them."""

    list_per_page = 50
    show_full_result_count = False
