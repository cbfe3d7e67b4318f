"""The form of a ranking rule in Oscar's dashboard: products are chosen as everywhere there."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.contenttypes.models import ContentType
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _
from oscar.core.loading import get_model
from oscar.forms.widgets import DateTimePickerInput, RemoteSelect

from ...models import RankingRule

CHOICE_FIELDS = ("object_id", "query_id")


class RuleForm(forms.ModelForm):
    object_id = forms.ModelChoiceField(queryset=None, required=False, label=_("Product"))
    query_id = forms.ModelChoiceField(
        queryset=None,
        required=False,
        label=_("Only for"),
        help_text=_("Apply only to the similar items of this product; empty for every search."),
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
        for name in CHOICE_FIELDS:
            field: Any = self.fields[name]
            field.widget = RemoteSelect(lookup_url=reverse_lazy("dashboard:catalogue-product-lookup"))
            field.widget.is_required = field.required
            field.queryset = get_model("catalogue", "Product").objects.browsable_dashboard()

    def clean(self) -> dict[str, Any]:
        """Put keys as text in place of the chosen products, which are what the rule's columns have."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.instance.content_type = ContentType.objects.get_for_model(get_model("catalogue", "Product"))
        chosen = {name: cleaned[name] for name in CHOICE_FIELDS if name in cleaned}
        return cleaned | {name: str(product.pk) if product else "" for name, product in chosen.items()}
