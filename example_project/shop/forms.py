from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from .models import Brand, Category, Product

ORDERS = {
    "": _("Newest"),
    "price": _("Price, low to high"),
    "-price": _("Price, high to low"),
    "name": _("Name"),
}


class FilterForm(forms.Form):
    """Filters and order of the product list. An invalid field shows its error and filters nothing."""

    q = forms.CharField(label=_("Name"), required=False, max_length=100, widget=forms.TextInput({"type": "search"}))
    category = forms.ModelChoiceField(
        Category.objects, label=_("Category"), required=False, to_field_name="slug", empty_label=_("All categories")
    )
    brand = forms.ModelChoiceField(
        Brand.objects, label=_("Brand"), required=False, to_field_name="slug", empty_label=_("All brands")
    )
    min_price = forms.DecimalField(label=_("Price from"), required=False, min_value=0, max_digits=10, decimal_places=2)
    max_price = forms.DecimalField(label=_("Price to"), required=False, min_value=0, max_digits=10, decimal_places=2)
    order = forms.ChoiceField(label=_("Sort by"), required=False, choices=list(ORDERS.items()))

    def narrow(self, products: QuerySet[Product]) -> QuerySet[Product]:
        self.is_valid()
        filters: dict[str, Any] = self.cleaned_data
        lookups = {
            "name__icontains": filters.get("q"),
            "category": filters.get("category"),
            "brand": filters.get("brand"),
            "price__gte": filters.get("min_price"),
            "price__lte": filters.get("max_price"),
        }
        products = products.filter(**{key: value for key, value in lookups.items() if value not in (None, "")})
        return products.order_by(filters["order"], "pk") if filters.get("order") else products
