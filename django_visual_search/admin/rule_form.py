"""The form of a ranking rule: a product or a group of products, chosen by name, and the fields of the rule's kind.

A *group* is all products with one value of an attribute. Its choice is ``<content type>~<attribute>=<value>``, beside
the choices of products (``products``), and it is found by the name of what the attribute leads to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from django import forms
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model
from django.http import HttpRequest, JsonResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..db.rows import all_rows, attribute_field, attribute_value
from ..models import RankingRule
from ..storefront.cards import title_of
from .products import (
    ProductChoice,
    ProductSelect,
    choice_models,
    choice_of,
    content_type_model,
    may_view,
    page_number,
    product_choices,
    search_rows,
    split_choice,
)

CHOICE_FIELDS = ("object_id", "query_id")
GROUPS_SHOWN = 5
"""Values of one attribute that the autocomplete offers."""
Group = tuple[type[Model], str, str]
"""Model, attribute and value."""
OWN_FIELDS = {"slot": "pin", "factor": "boost"}
"""Fields of one kind of rule only."""


class TargetChoice(ProductChoice):
    """A choice of a product or of a group."""

    def clean(self, value: Any) -> str:
        choice = forms.CharField.clean(self, value)
        return choice if choice and split_group(choice) else super().clean(choice)


class TargetSelect(ProductSelect):
    """The select for products, with groups among its choices."""

    def _title(self, choice: str) -> str:
        group = split_group(choice)
        return group_name(*group) if group else super()._title(choice)


class RankingRuleForm(forms.ModelForm):
    """Two columns name products, which are chosen by name; the content type follows from the choice.

    ``previewing``: whether the rule is shown and not saved. The form is then never valid, so that the admin shows it
    again; ``instance`` is the rule, ``errors`` its faults.
    """

    object_id = TargetChoice(
        label=gettext_lazy("Product or group"),
        required=False,
        help_text=gettext_lazy("A product, or a category, brand or other group of products, by name."),
    )
    query_id = ProductChoice(
        label=gettext_lazy("Only for"),
        required=False,
        help_text=gettext_lazy("Apply only to the similar items of this product; empty for every search."),
    )
    model = forms.ChoiceField(
        label=gettext_lazy("Products"), required=False, help_text=gettext_lazy("The model that has the attribute.")
    )
    products: Any = None
    """Model -> products that the user may see. The ModelAdmin sets it, ``admin_site`` and ``previewing`` for each
    request."""
    admin_site: Any = None
    previewing = False

    class Meta:
        model = RankingRule
        fields = [
            *("kind", "object_id", "query_id", "slot", "factor", "attribute", "value", "starts_at", "ends_at", "note")
        ]
        help_texts = {
            "value": gettext_lazy("For a relation, the primary key of the row that it leads to."),
            "slot": gettext_lazy("Its place among the hits: 1 is the first."),
            "factor": gettext_lazy("How much nearer it counts, 0.5 to 2; below 1 it counts as farther."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in CHOICE_FIELDS:
            if name in self.fields:
                field: Any = self.fields[name]
                select = TargetSelect if name == "object_id" else ProductSelect
                field.products = self.products
                field.widget = select(RankingRule._meta.get_field(name), self.admin_site)
                field.widget.is_required, field.widget.products = field.required, self.products
                if self.instance.pk:
                    self.initial[name] = choice_of(self.instance.content_type_id, getattr(self.instance, name))
        for name in OWN_FIELDS:
            if name in self.fields:
                self.fields[name].required = False
        for name in ("starts_at", "ends_at"):  # the admin's widget has one label for two inputs
            parts = getattr(self.fields[name].widget, "widgets", []) if name in self.fields else []
            for part, word in zip(parts, (_("date"), _("time")), strict=False):
                part.attrs["aria-label"] = f"{self.fields[name].label}, {word}"
        if "model" in self.fields:
            models: Any = self.fields["model"]
            models.choices = [(m._meta.label, str(capfirst(m._meta.verbose_name_plural))) for m in choice_models()]
            if self.instance.pk and (named := content_type_model(self.instance.content_type_id)):
                self.initial["model"] = named._meta.label

    def is_valid(self) -> bool:
        return super().is_valid() and not self.previewing

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name, kind in OWN_FIELDS.items():  # a field that the page doesn't show can't be wrong
            if cleaned.get("kind") != kind or (name not in self.errors and cleaned.get(name) is None):
                self.errors.pop(name, None)
                cleaned[name] = RankingRule._meta.get_field(name).get_default()
        group = split_group(cleaned.get("object_id") or "")
        model, key = split_choice(cleaned.get("object_id") or "")
        query, query_key = split_choice(cleaned.get("query_id") or "")
        if group is not None:
            model, cleaned["attribute"], cleaned["value"] = group
            key = ""
        elif model is None and cleaned.get("attribute"):
            model = next((m for m in choice_models() if m._meta.label == cleaned.get("model")), query)
            model = model or next(iter(choice_models()), None)
        elif model is None and "object_id" not in self.errors:
            self.add_error("object_id", _("Choose a product or a group, or give an attribute and its value."))
        if model is not None:
            self.instance.content_type = ContentType.objects.get_for_model(model)
            if query is not None and query is not model:
                self.add_error("query_id", _("Both products must be of the same model."))
        cleaned |= {"object_id": key, "query_id": query_key}
        return cleaned


# Groups


def split_group(choice: str) -> Group | None:
    """Return a group's model, attribute and value, or None if the text is not a group."""
    number, is_group, rest = choice.partition("~")
    attribute, is_valued, value = rest.partition("=")
    model, _key = split_choice(f"{number}:")
    if not is_group or not is_valued or model is None or not value:
        return None
    try:
        attribute_value(model, attribute, value)
    except (LookupError, ValueError):
        return None
    return model, attribute, value


def group_name(model: type[Model], attribute: str, value: str) -> str:
    """Return a group in words, such as "Category: Teapots"; the path and the value where they no longer fit."""
    return group_names([(model, attribute, value)])[model, attribute, value]


def group_names(groups: Iterable[Group]) -> dict[Group, str]:
    """Return the groups in words; one query for each attribute that leads to other rows."""
    named: dict[Group, str] = {}
    by_path: dict[tuple[type[Model], str], set[str]] = defaultdict(set)
    for model, attribute, value in groups:
        named[model, attribute, value] = f"{attribute}={value}"
        by_path[model, attribute].add(value)
    for (model, attribute), values in by_path.items():
        valid = {}
        for value in values:
            with suppress(LookupError, ValueError):
                valid[value] = attribute_value(model, attribute, value)
        if not valid:
            continue
        field = attribute_field(model, attribute)
        rows = all_rows(field.related_model).in_bulk(list(valid.values())) if field.is_relation else {}
        path = [attribute_field(model, attribute[:end]) for end in _ends(attribute)]
        words = " > ".join(str(getattr(step, "verbose_name", None) or step.name) for step in path)
        for value, key in valid.items():
            shown = title_of(rows[key]) if key in rows else value
            about = {"attribute": capfirst(words), "value": shown}
            named[model, attribute, value] = _("%(attribute)s: %(value)s") % about
    return named


def _ends(path: str) -> list[int]:
    """Return where each of the path's names ends."""
    parts = path.split("__")
    return [len("__".join(parts[: n + 1])) for n in range(len(parts))]


def group_choices(model_admin: Any, request: HttpRequest, term: str) -> Iterator[dict[str, str]]:
    """Yield the groups whose name matches, as select2 reads them, of rows that the user may see in the admin."""
    for model in choice_models():
        content_type = ContentType.objects.get_for_model(model).pk
        for relation in model._meta.get_fields():
            if not relation.concrete or not (relation.many_to_one or relation.many_to_many):
                continue
            related = relation.related_model
            if not isinstance(related, type) or not may_view(model_admin.admin_site, request, related):
                continue
            for row in search_rows(model_admin.admin_site, request, related, term)[:GROUPS_SHOWN]:
                value = str(row.pk)
                yield {"id": f"{content_type}~{relation.name}={value}", "text": group_name(model, relation.name, value)}


def choices_view(model_admin: Any, request: HttpRequest) -> JsonResponse:
    """Return page ``page`` of the products that match ``term``, after the groups that do, as select2 reads them."""
    if not (model_admin.has_add_permission(request) or model_admin.has_view_or_change_permission(request)):
        raise PermissionDenied
    term = request.GET.get("term", "").replace("\0", "").strip()
    try:
        number = page_number(request)
    except ValidationError as e:
        return JsonResponse({"detail": e.message}, status=400)
    results, more = product_choices(model_admin.admin_site, request, term, number)
    if term and number == 1 and request.GET.get("field_name") == "object_id":
        results = [*group_choices(model_admin, request, term), *results]
    return JsonResponse({"results": results, "pagination": {"more": more}})
