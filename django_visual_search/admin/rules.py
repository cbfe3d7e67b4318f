"""Ranking rules: staff pin, boost and hide products, which they choose by name and see with their pictures."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import RankingRule
from .base import ProductRowsAdmin
from .products import (
    ProductChoice,
    ProductKey,
    ProductSelect,
    choice_of,
    choices_view,
    content_type_model,
    split_choice,
    visible_products,
)

HIT, QUERY = 0, 1
CHOICE_FIELDS = ("object_id", "query_id")
NOTE_LENGTH = 60
"""Characters of a note in the list."""


class RankingRuleForm(forms.ModelForm):
    """Two columns name products, which are chosen by name; the content type follows from the choice."""

    object_id = ProductChoice(label=gettext_lazy("Product"))
    query_id = ProductChoice(
        label=gettext_lazy("Only for"),
        required=False,
        help_text=gettext_lazy("Apply only to the similar items of this product; empty for every search."),
    )
    products: Any = None
    """Model -> products that the user may see. The ModelAdmin sets it and ``admin_site`` for each request."""
    admin_site: Any = None

    class Meta:
        model = RankingRule
        fields = ["kind", "object_id", "query_id", "slot", "factor", "starts_at", "ends_at", "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in CHOICE_FIELDS:
            if name in self.fields:
                field: Any = self.fields[name]
                field.products = self.products
                field.widget = ProductSelect(RankingRule._meta.get_field(name), self.admin_site)
                field.widget.is_required, field.widget.products = field.required, self.products
                if self.instance.pk:
                    self.initial[name] = choice_of(self.instance.content_type_id, getattr(self.instance, name))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        hit, key = split_choice(cleaned.get("object_id") or "")
        query, query_key = split_choice(cleaned.get("query_id") or "")
        if hit is not None:
            self.instance.content_type = ContentType.objects.get_for_model(hit)
            if query is not None and query is not hit:
                self.add_error("query_id", _("Both products must be of the same model."))
        cleaned |= {"object_id": key, "query_id": query_key}
        return cleaned


@admin.register(RankingRule)
class RankingRuleAdmin(ProductRowsAdmin):
    form = RankingRuleForm
    list_display = ["hit", "rule", "query", "when", "active"]
    list_display_links = ["rule"]
    list_filter = ["kind"]
    search_fields = ["=object_id", "=query_id", "note"]
    ordering = ["-id"]
    fields = ["kind", "object_id", "query_id", "pictures", "slot", "factor", "starts_at", "ends_at", "note"]
    readonly_fields = ["pictures"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        names = list(super().get_fields(request, obj))
        if obj is None:
            return [name for name in names if name != "pictures"]
        # Whoever may only view sees the products, not their keys.
        return (
            names if self.has_change_permission(request, obj) else [name for name in names if name not in CHOICE_FIELDS]
        )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        products = staticmethod(partial(visible_products, self.admin_site, request))
        return type(form.__name__, (form,), {"products": products, "admin_site": self.admin_site})

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.products_view)
        return [path("products/", view, name="django_visual_search_rankingrule_products"), *super().get_urls()]

    def products_view(self, request: HttpRequest) -> JsonResponse:
        """Return products for the autocomplete."""
        return choices_view(self, request)

    def product_keys(self, row: RankingRule) -> Iterable[ProductKey | None]:
        model = content_type_model(row.content_type_id)
        return [(model, key) if model and key else None for key in (row.object_id, row.query_id)]

    @admin.display(description=gettext_lazy("product"), ordering="object_id")
    def hit(self, row: RankingRule) -> SafeString | str:
        return self.cell(row, HIT, row.object_id)

    @admin.display(description=gettext_lazy("only for"), ordering="query_id")
    def query(self, row: RankingRule) -> SafeString | str:
        return self.cell(row, QUERY, row.query_id or _("every search"))

    @admin.display(description=gettext_lazy("rule"), ordering="kind")
    def rule(self, row: RankingRule) -> SafeString:
        note = Truncator(row.note).chars(NOTE_LENGTH)
        noted = format_html('<span class="visual-search-reason" title="{}">{}</span>', row.note, note) if note else ""
        return format_html('<span class="visual-search-rule">{}{}</span>', _effect(row), noted)

    def subtitle_of(self, row: RankingRule) -> str:
        return f"{capfirst(_effect(row))}: {self.product_name(row, HIT)}"

    @admin.display(description=gettext_lazy("when"), ordering="starts_at")
    def when(self, row: RankingRule) -> str:
        first, last = (_short_date(moment) for moment in (row.starts_at, row.ends_at))
        if first and last:
            return _("%(first)s to %(last)s") % {"first": first, "last": last}
        if first:
            return _("from %(first)s") % {"first": first}
        return _("until %(last)s") % {"last": last} if last else _("always")

    @admin.display(description=gettext_lazy("now"), boolean=True)
    def active(self, row: RankingRule) -> bool:
        """Return whether the rule applies now."""
        now = timezone.now()
        return (row.starts_at is None or row.starts_at <= now) and (row.ends_at is None or row.ends_at > now)

    @admin.display(description=gettext_lazy("Pictures"))
    def pictures(self, row: RankingRule) -> SafeString:
        return format_html(
            '<span class="visual-search-pair">{} <span>{}</span> {}</span>', self.hit(row), _("in"), self.query(row)
        )


def _effect(row: RankingRule) -> str:
    if row.kind == RankingRule.Kind.PIN:
        return _("pin to place %(slot)s") % {"slot": row.slot}
    if row.kind == RankingRule.Kind.BOOST:
        return _("boost by %(factor)s") % {"factor": row.factor}
    return str(row.get_kind_display())


def _short_date(moment: Any) -> str:
    return "" if moment is None else str(date_format(timezone.template_localtime(moment), "SHORT_DATETIME_FORMAT"))
