"""Ranking rules: staff pin, boost and hide products, which they choose by name and see with their pictures.

The form is in ``rule_form``, what a rule does in ``rule_preview``, the buttons of a hit in
``storefront.merchandising``. ``rules_about`` gives the rules that a product's page shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db.models import Exists, Model, OuterRef, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..db.rows import all_rows, rows_with
from ..models import RankingRule
from ..storefront.merchandising import NEXT, PHOTO
from .base import ProductRowsAdmin
from .products import ProductKey, choice_models, content_type_model, visible_products
from .rule_form import CHOICE_FIELDS, RankingRuleForm, choices_view, group_name, group_names
from .rule_preview import rule_preview

HIT, QUERY = 0, 1
NOTE_LENGTH = 60
"""Characters of a note in the list."""
PREVIEW = "_preview"
"""Name of the button that shows what the rule does."""


@admin.register(RankingRule)
class RankingRuleAdmin(ProductRowsAdmin):
    form = RankingRuleForm
    change_form_template = "visual_search/admin/rule.html"
    list_display = ["hit", "rule", "query", "when", "active"]
    list_display_links = ["rule"]
    list_filter = ["kind"]
    search_fields = ["=object_id", "=query_id", "=attribute", "note"]
    ordering = ["-id"]
    readonly_fields = ["pictures"]
    fieldsets = [
        (None, {"fields": ["kind", "object_id", "query_id", "pictures", "slot", "factor"]}),
        (
            gettext_lazy("All products with an attribute"),
            {
                "fields": ["model", "attribute", "value"],
                "description": gettext_lazy(
                    "For attributes that are not among the groups: a path from the product, such as brand__country, "
                    "and its value."
                ),
                "classes": ["visual-search-by-attribute"],
            },
        ),
        (None, {"fields": ["starts_at", "ends_at", "note"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        left_out = {"pictures"} if obj is None else set()
        # Users who may only view see the products, not their keys.
        may_edit = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        left_out |= set() if may_edit else {*CHOICE_FIELDS, "model"}
        left_out |= {"model"} if len(choice_models()) == 1 else set()
        return [
            (name, {**options, "fields": [field for field in options["fields"] if field not in left_out]})
            for name, options in super().get_fieldsets(request, obj)
        ]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        own = {
            "products": staticmethod(partial(visible_products, self.admin_site, request)),
            "admin_site": self.admin_site,
            "previewing": PREVIEW in request.POST,
        }
        return type(form.__name__, (form,), own)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.products_view)
        return [path("products/", view, name="django_visual_search_rankingrule_products"), *super().get_urls()]

    def products_view(self, request: HttpRequest) -> JsonResponse:
        """Return products and groups for the autocomplete."""
        return choices_view(self, request)

    # Its page: the rule's effect, and the way back

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        rule = self._shown_rule(request, context["adminform"].form, context.get("original"))
        photo = request.POST.get(PHOTO) or request.GET.get(PHOTO) or ""
        context |= {
            "preview": rule and rule_preview(self.admin_site, request, rule, photo),
            "previewed": rule is not None,
            "next": _next(request),
            "photo": photo,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def _shown_rule(self, request: HttpRequest, form: Any, original: RankingRule | None) -> RankingRule | None:
        """Return the rule in the form; None if it has faults."""
        if form.is_bound:
            return None if form.errors else form.instance
        if original is not None or not request.GET.get("kind"):
            return original
        given = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
        filled = type(form)({name: value for name, value in given.items() if value is not None})
        return filled.instance if not filled.errors else None

    def response_add(self, request: HttpRequest, obj: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._back(request) or super().response_add(request, obj, *args, **kwargs)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._back(request) or super().response_change(request, obj)

    def _back(self, request: HttpRequest) -> HttpResponse | None:
        target = _next(request)
        return HttpResponseRedirect(target) if target and "_save" in request.POST else None

    # Columns

    def prepare(self, rows: list[Any]) -> None:
        """Look up the groups' names: one query for each attribute."""
        names = group_names(group for row in rows if (group := group_of(row)) is not None)
        for row in rows:
            row.visual_search_group = names.get(group_of(row))

    def product_keys(self, row: RankingRule) -> Iterable[ProductKey | None]:
        model = content_type_model(row.content_type_id)
        return [(model, key) if model and key else None for key in (row.object_id, row.query_id)]

    @admin.display(description=gettext_lazy("product"), ordering="object_id")
    def hit(self, row: RankingRule) -> SafeString | str:
        return _group(row) if row.attribute else self.cell(row, HIT, row.object_id)

    @admin.display(description=gettext_lazy("only for"), ordering="query_id")
    def query(self, row: RankingRule) -> SafeString | str:
        return self.cell(row, QUERY, row.query_id or _("every search"))

    @admin.display(description=gettext_lazy("rule"), ordering="kind")
    def rule(self, row: RankingRule) -> SafeString:
        note = Truncator(row.note).chars(NOTE_LENGTH)
        noted = format_html('<span class="visual-search-reason" title="{}">{}</span>', row.note, note) if note else ""
        return format_html('<span class="visual-search-rule">{}{}</span>', effect(row), noted)

    def subtitle_of(self, row: RankingRule) -> str:
        return rule_name(row, self.product_name(row, HIT))

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


def effect(row: RankingRule) -> str:
    """Return the rule's effect in words."""
    if row.kind == RankingRule.Kind.PIN:
        return _("pin to place %(slot)s") % {"slot": row.slot}
    if row.kind == RankingRule.Kind.BOOST:
        return _("boost by %(factor)s") % {"factor": number_format(row.factor)}
    return str(row.get_kind_display())


def rule_name(row: RankingRule, product: str = "") -> str:
    """Return the rule in words. ``product``: the name of the product that it is about, if the caller has it."""
    return _("%(effect)s: %(about)s") % {
        "effect": capfirst(effect(row)),
        "about": _group(row) if row.attribute else product or row.object_id,
    }


def group_of(row: RankingRule) -> Any:
    """Return the rule's group, as ``rule_form`` has it; None for one product, or a model that is gone."""
    model = content_type_model(row.content_type_id)
    return (model, row.attribute, row.value) if model and row.attribute else None


def _group(row: RankingRule) -> str:
    named, group = getattr(row, "visual_search_group", None), group_of(row)
    return named or (group_name(*group) if group else f"{row.attribute}={row.value}")


def _short_date(moment: Any) -> str:
    return "" if moment is None else str(date_format(timezone.template_localtime(moment), "SHORT_DATETIME_FORMAT"))


def _next(request: HttpRequest) -> str:
    """Return the page of this site that saving leads to; empty if the request names none."""
    target = request.POST.get(NEXT) or request.GET.get(NEXT) or ""
    return target if url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure()) else ""


# On a product's page


def rules_about(admin_site: Any, request: HttpRequest, product: Model) -> list[tuple[str, str, str, bool]]:
    """Return (effect, what it is about, URL, whether it applies now) of the rules that name or match a product.

    Empty if the user may not see rules. At most two queries, and one for each group's name.
    """
    if not admin_site.is_registered(RankingRule):
        return []
    model_admin = admin_site.get_model_admin(RankingRule)
    if not model_admin.has_view_or_change_permission(request):
        return []
    kind = ContentType.objects.get_for_model(product)
    key = str(product.pk)
    named = Q(object_id=key) | Q(query_id=key)
    rules = list(RankingRule.objects.filter(named | ~Q(attribute=""), content_type=kind).order_by("-id"))
    matching = _matching(product, [rule for rule in rules if rule.attribute and rule.query_id in ("", key)])
    found = []
    for rule in rules:
        if rule.attribute and rule.query_id != key and rule.pk not in matching:
            continue
        about = _group(rule) if rule.attribute else "" if rule.object_id == key else _("another product, here")
        scope = "" if not rule.query_id else _("only here") if rule.query_id == key else _("for one product only")
        words = ", ".join(filter(None, (about, scope, rule.note)))
        url = reverse(f"{admin_site.name}:django_visual_search_rankingrule_change", args=[quote(rule.pk)])
        found.append((capfirst(effect(rule)), words, url, model_admin.active(rule)))
    return found


def _matching(product: Model, rules: list[RankingRule]) -> set[int]:
    """Return the primary keys of the rules by attribute that the product matches, by one query."""
    conditions = {}
    for rule in rules:
        try:
            rows = rows_with(product._meta.concrete_model, rule.attribute, rule.value)
            conditions[f"rule_{rule.pk}"] = Exists(rows.filter(pk=OuterRef("pk")))
        except (LookupError, ValueError):  # the model has changed since
            continue
    if not conditions:
        return set()
    row = all_rows(product._meta.concrete_model).filter(pk=product.pk).values(**conditions).first() or {}
    return {int(name.removeprefix("rule_")) for name, matches in row.items() if matches}
