"""Products that rows name by model and key as text: read for a whole page of rows at once, and shown with a picture.

A form field that names a product of any model by typing a part of its name, with the admin's own autocomplete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib.admin.widgets import AutocompleteMixin
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import CharField, Model, Q, QuerySet
from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..fields import EmbeddingField
from ..fields.registry import embedding_fields, fields_of_product
from ..storefront.cards import thumbnail_of, title_of
from .hits import change_address

SIDE = 40
"""Pixels of a thumbnail in a list."""

Key = tuple[type[Model], str]


def load_products(wanted: Iterable[Key]) -> dict[Key, Model]:
    """The products that are there, without their vectors: one query for each model."""
    keys: dict[type[Model], set[str]] = defaultdict(set)
    for model, key in wanted:
        keys[model].add(key)
    found: dict[Key, Model] = {}
    for model, named in keys.items():
        sound = [value for key in named if (value := primary_key(model, key)) is not None]
        own = [field.name for field in fields_of_product(model) if field.product is None and field.link is None]
        for product in model._base_manager.defer(*own).filter(pk__in=sound):
            found[model, str(product.pk)] = product
    return found


def primary_key(model: type[Model], text: str) -> Any:
    """The key that the text stands for; None where it can't be one."""
    try:
        value = model._meta.pk.to_python(text)
        return None if "\0" in text else value
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None


def model_of(content_type_id: int | None) -> type[Model] | None:
    """Remembered by Django; None where the model is gone."""
    return ContentType.objects.get_for_id(content_type_id).model_class() if content_type_id else None


def own_picture(product: Model) -> str:
    """Address of a small version of the picture on the product itself; empty where it has none."""
    for field in fields_of_product(type(product)):
        if _links_to_product(field) if field.link else field.product is None:
            return thumbnail_of(getattr(product, field.image_field.name, None), SIDE * 2)
    return ""


def _links_to_product(field: EmbeddingField) -> bool:
    return field.link is not None and field.product == field.link.name


def product_cell(admin_site: Any, product: Model | None, missing: str) -> SafeString:
    """Picture and name, leading to the product's page; ``missing``: what to show where the product is gone."""
    if product is None:
        return format_html('<span class="visual-search-gone">{}</span>', missing)
    picture, address = own_picture(product), change_address(admin_site, product)
    image = (
        format_html('<img src="{}" alt="" width="{}" height="{}" loading="lazy">', picture, SIDE, SIDE)
        if picture
        else ""
    )
    if not address:
        return format_html('<span class="visual-search-product">{}<span>{}</span></span>', image, title_of(product))
    link = '<a class="visual-search-product" href="{}">{}<span>{}</span></a>'
    return format_html(link, address, image, title_of(product))


PAGE = 20


def product_models() -> list[type[Model]]:
    """The models whose products are found by pictures."""
    return list(dict.fromkeys(field.product_model._meta.concrete_model for field in embedding_fields()))


def choice_of(content_type_id: int | None, key: str) -> str:
    """A product as the text that the field works with: ``<content type>:<primary key>``."""
    return f"{content_type_id}:{key}" if content_type_id and key else ""


def split_choice(choice: str) -> tuple[type[Model] | None, str]:
    """The product's model and key as text; no model where the text is not a choice."""
    number, _colon, key = choice.partition(":")
    try:
        model = model_of(int(number)) if number.isdecimal() else None
    except (ContentType.DoesNotExist, OverflowError):
        model = None
    return (model if model in product_models() else None), key


class ProductSelect(AutocompleteMixin, forms.Select):
    """A select that loads its options as the admin's autocomplete fields do; only the chosen one is in the page."""

    url_name = "%s:django_visual_search_rankingrule_products"

    def get_url(self) -> str:
        return reverse(self.url_name % self.admin_site.name)

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        options = [] if self.is_required else [self.create_option(name, "", "", False, 0)]
        for choice in filter(None, value):
            options.append(self.create_option(name, choice, self._title(choice), True, len(options)))
        return [(None, options, 0)]

    def _title(self, choice: str) -> str:
        model, text = split_choice(choice)
        key = primary_key(model, text) if model else None
        product = model._base_manager.filter(pk=key).first() if model and key is not None else None
        return text if product is None else label_of(product)


class ProductChoice(forms.CharField):
    """Cleans to a choice of a product that exists; ``products``: model -> those that the user may see."""

    products: Any = None

    def clean(self, value: Any) -> str:
        choice: str = super().clean(value)
        if not choice:
            return ""
        model, text = split_choice(choice)
        key = primary_key(model, text) if model else None
        if key is None or not self.products(model).filter(pk=key).exists():
            raise ValidationError(_("This product does not exist, or you may not see it."))
        return choice


def label_of(product: Model) -> str:
    """The product's name, with its model's where there are several."""
    name = title_of(product)
    return name if len(product_models()) == 1 else f"{name} ({product._meta.verbose_name})"


def visible_products(admin_site: Any, request: HttpRequest, model: type[Model]) -> QuerySet[Any]:
    """Those of the model that the user may see in the admin; all, where it has no admin and the user may view it."""
    if admin_site.is_registered(model):
        model_admin = admin_site.get_model_admin(model)
        allowed = model_admin.has_view_or_change_permission(request)
        return model_admin.get_queryset(request) if allowed else model._base_manager.none()
    allowed = request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
    return model._default_manager.all() if allowed else model._base_manager.none()


def products_view(model_admin: Any, request: HttpRequest) -> JsonResponse:
    """What the autocomplete asks for: ``term`` and ``page`` to products, as select2 reads them."""
    if not (model_admin.has_add_permission(request) or model_admin.has_view_or_change_permission(request)):
        raise PermissionDenied
    term = request.GET.get("term", "").replace("\0", "").strip()
    number = request.GET.get("page", "1")
    first = PAGE * (min(int(number), 1000) - 1 if number.isdecimal() and int(number) else 0)
    results: list[dict[str, str]] = []
    more = False
    for model in product_models():
        found = list(_search(model_admin.admin_site, request, model, term)[first : first + PAGE + 1])
        more = more or len(found) > PAGE
        content_type = ContentType.objects.get_for_model(model).pk
        results += [
            {"id": choice_of(content_type, str(product.pk)), "text": label_of(product)} for product in found[:PAGE]
        ]
    return JsonResponse({"results": results, "pagination": {"more": more}})


def _search(admin_site: Any, request: HttpRequest, model: type[Model], term: str) -> QuerySet[Any]:
    """By the search of the model's own admin; else in its texts."""
    queryset = visible_products(admin_site, request, model)
    if not term:
        return queryset.order_by("pk")
    if admin_site.is_registered(model) and admin_site.get_model_admin(model).get_search_fields(request):
        found, repeats = admin_site.get_model_admin(model).get_search_results(request, queryset, term)
        return (found.distinct() if repeats else found).order_by("pk")
    names = [f.name for f in model._meta.concrete_fields if type(f) is CharField and not f.choices]
    texts = reduce(or_, (Q(**{f"{name}__icontains": term}) for name in names), Q(pk=primary_key(model, term)))
    return queryset.filter(texts).order_by("pk")
