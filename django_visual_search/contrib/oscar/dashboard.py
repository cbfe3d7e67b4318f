"""The pages in Oscar's dashboard: what the pages of our admin show, in Oscar's layout.

The admin's own classes gather what a page shows. To them, Oscar's dashboard is an admin site that has no model of its
own, so Django's permissions decide which products a user may see.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest, HttpResponse
from django.urls import reverse, reverse_lazy
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views import generic
from oscar.core.loading import get_model
from oscar.forms.widgets import DateTimePickerInput, RemoteSelect

from ...admin.dashboard import DashboardAdmin
from ...admin.findability import FindabilityAdmin
from ...admin.rules import RankingRuleAdmin
from ...models import Dashboard, Findability, RankingRule
from . import NAMESPACE

SITE = AdminSite(NAMESPACE)
RULES = reverse_lazy(f"{NAMESPACE}:visual-search-rules")


class StatusView(generic.TemplateView):
    """Numbers of pictures with vectors, and of shoppers' events."""

    template_name = "visual_search_oscar/status.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _rendered(self, DashboardAdmin(Dashboard, SITE).get_page_context(request))


class FindabilityView(generic.TemplateView):
    """Products that can't be found; a POST starts a check."""

    template_name = "visual_search_oscar/findability.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _rendered(self, FindabilityAdmin(Findability, SITE).get_page_context(request))

    post = get


def _rendered(view: generic.TemplateView, page: dict[str, Any] | HttpResponse) -> HttpResponse:
    return page if isinstance(page, HttpResponse) else view.render_to_response(page)


RULES_TITLE = capfirst(RankingRule._meta.verbose_name_plural)


class RuleListView(generic.ListView):
    """The rules, the latest first."""

    queryset = RankingRule.objects.order_by("-pk")
    paginate_by = 50
    template_name = "visual_search_oscar/rules.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        admin, rules = RankingRuleAdmin(RankingRule, SITE), list(context["object_list"])
        admin.load_products(self.request, rules)
        shown = [(rule, admin.hit(rule), admin.rule(rule), admin.query(rule), admin.when(rule)) for rule in rules]
        return {**context, "rules": shown, "title": RULES_TITLE}


PRODUCT_CHOICES = ("object_id", "query_id")


class RuleForm(forms.ModelForm):
    """Products are chosen as everywhere in Oscar's dashboard."""

    object_id = forms.ModelChoiceField(queryset=None, required=False, label=gettext_lazy("Product"))
    query_id = forms.ModelChoiceField(
        queryset=None,
        required=False,
        label=gettext_lazy("Only for"),
        help_text=gettext_lazy("Apply only to the similar items of this product; empty for every search."),
    )

    class Meta:
        model = RankingRule
        fields = [
            "kind",
            "object_id",
            "attribute",
            "value",
            "query_id",
            "slot",
            "factor",
            "starts_at",
            "ends_at",
            "note",
        ]
        widgets = {"starts_at": DateTimePickerInput(), "ends_at": DateTimePickerInput()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in PRODUCT_CHOICES:
            field: Any = self.fields[name]
            field.widget = RemoteSelect(lookup_url=reverse_lazy("dashboard:catalogue-product-lookup"))
            field.widget.is_required = field.required
            field.queryset = get_model("catalogue", "Product").objects.browsable_dashboard()

    def clean(self) -> dict[str, Any]:
        """Replace the chosen products by their keys as text, which the rule's columns hold."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.instance.content_type = ContentType.objects.get_for_model(get_model("catalogue", "Product"))
        chosen = {name: cleaned[name] for name in PRODUCT_CHOICES if name in cleaned}
        return cleaned | {name: str(product.pk) if product else "" for name, product in chosen.items()}


class RuleFormView:
    """The common part of creating and changing a rule."""

    request: HttpRequest
    model = RankingRule
    form_class = RuleForm
    template_name = "visual_search_oscar/rule_form.html"
    success_url = RULES

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, _("The rule is saved."))
        return super().form_valid(form)  # type: ignore[misc,no-any-return]


class RuleCreateView(RuleFormView, generic.CreateView):
    """A new rule."""


class RuleUpdateView(RuleFormView, generic.UpdateView):
    """A rule."""


class RuleDeleteView(generic.DeleteView):
    """Asks before it deletes a rule."""

    model = RankingRule
    template_name = "visual_search_oscar/rule_delete.html"
    success_url = RULES


class ProductView(generic.RedirectView):
    """Leads to the dashboard's page of a product; of a child, Oscar sends on to its parent's."""

    def get_redirect_url(self, pk: str, **kwargs: Any) -> str:
        return reverse("dashboard:catalogue-product", args=[pk])
