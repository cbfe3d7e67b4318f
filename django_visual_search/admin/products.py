"""Products of any model in our tables: loaded for a page of rows, shown in a cell, and chosen by name.

A *product key* is a model and a primary key as text; a *choice* is both as one text, ``<content type>:<primary key>``,
the value of a form field that uses the admin's own autocomplete.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib.admin.widgets import AutocompleteMixin
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import CharField, F, Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..db.rows import all_rows, key_from_text
from ..fields import EmbeddingField
from ..fields.products import with_product
from ..fields.registry import embedding_fields, fields_of_product
from ..storefront.cards import image_at, picture_of, thumbnail_of, title_of
from .hits import change_url

CELL_THUMBNAIL_SIDE = 40
"""Pixels of a thumbnail in a list."""
CHOICES_PAGE = 20
"""Products that the autocomplete loads at once."""

ProductKey = tuple[type[Model], str]


# Which products a user may see


def may_view(admin_site: Any, request: HttpRequest, model: type[Model]) -> bool:
    """Return whether the user may see the model in the admin; without an admin, whether the user may view it."""
    if admin_site.is_registered(model):
        return bool(admin_site.get_model_admin(model).has_view_or_change_permission(request))
    return bool(request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"))


def visible_products(admin_site: Any, request: HttpRequest, model: type[Model]) -> QuerySet[Any]:
    """Return the model's products that the user may see in the admin."""
    if not may_view(admin_site, request, model):
        return all_rows(model).none()
    if admin_site.is_registered(model):
        queryset: QuerySet[Any] = admin_site.get_model_admin(model).get_queryset(request)
        return queryset
    return model._default_manager.all()


# Loading and showing


def load_products(admin_site: Any, request: HttpRequest, keys: Iterable[ProductKey]) -> dict[ProductKey, Model]:
    """Return the products that the user may see, without their vectors: one query for each model."""
    by_model: dict[type[Model], set[str]] = defaultdict(set)
    for model, key in keys:
        by_model[model].add(key)
    found: dict[ProductKey, Model] = {}
    for model, texts in by_model.items():
        valid = {value: text for text in texts if (value := primary_key(model, text)) is not None}
        own = [field.name for field in fields_of_product(model) if issubclass(model, field.model)]
        for product in visible_products(admin_site, request, model).defer(*own).filter(pk__in=list(valid)):
            found[model, valid[product.pk]] = product
    return found


def primary_key(model: type[Model], text: str) -> Any:
    """Return the primary key that the text stands for; None where it can't be one."""
    try:
        value = key_from_text(model, text, router.db_for_read(model))
        return None if "\0" in text else value
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None


def content_type_model(content_type_id: int | None) -> type[Model] | None:
    """Return the model, which Django caches; None where it is gone."""
    return ContentType.objects.get_for_id(content_type_id).model_class() if content_type_id else None


def product_thumbnail(product: Model, side: int = 2 * CELL_THUMBNAIL_SIDE) -> str:
    """Return the URL of a thumbnail of the picture on the product itself; empty where it has none."""
    for field in fields_of_product(product._meta.model):
        if _links_to_product(field) if field.link else isinstance(product, field.model):
            return thumbnail_of(image_at(product, field.image_path), side)
    return ""


def product_thumbnails(
    model: type[Model], products: Iterable[Model], side: int = 2 * CELL_THUMBNAIL_SIDE
) -> dict[Any, str]:
    """Return the URL of a thumbnail for each product that has a picture: its own, else the first that leads to it."""
    listed = list(products)
    found = {product.pk: url for product in listed if (url := product_thumbnail(product, side))}
    for field in fields_of_product(model):
        left = [product.pk for product in listed if product.pk not in found]
        if not left or field.product is None or _links_to_product(field):
            continue
        rows, path = with_product(field, all_rows(field.model).defer(field.name).order_by("pk"))
        way = (field.source or "").rpartition("__")[0]
        rows = rows.select_related(way) if way else rows
        for row in rows.filter(**{f"{path}__in": left}).annotate(_visual_key=F(path)):
            key = row._visual_key
            if key not in found and (url := thumbnail_of(picture_of(field, row), side)):
                found[key] = url
    return found


def _links_to_product(field: EmbeddingField) -> bool:
    return field.link is not None and field.link.name in field.product_paths


def product_cell(admin_site: Any, product: Model | None, missing: str) -> SafeString:
    """Return picture and name, linked to the product's page; ``missing`` in place of a product that is gone."""
    if product is None:
        return format_html('<span class="visual-search-gone">{}</span>', missing)
    thumbnail, url, side = product_thumbnail(product), change_url(admin_site, product), CELL_THUMBNAIL_SIDE
    image: SafeString | str = ""
    if thumbnail:
        image = format_html('<img src="{}" alt="" width="{}" height="{}" loading="lazy">', thumbnail, side, side)
    if not url:
        return format_html('<span class="visual-search-product">{}<span>{}</span></span>', image, title_of(product))
    link = '<a class="visual-search-product" href="{}">{}<span>{}</span></a>'
    return format_html(link, url, image, title_of(product))


# Choosing by name


def choice_models() -> list[type[Model]]:
    """Return the concrete models of the products that searches find."""
    return list(dict.fromkeys(field.product_model._meta.concrete_model for field in embedding_fields()))


def choice_of(content_type_id: int | None, key: str) -> str:
    """Return a product as a choice; empty without a product."""
    return f"{content_type_id}:{key}" if content_type_id and key else ""


def split_choice(choice: str) -> tuple[type[Model] | None, str]:
    """Return the product's model and key as text; None in place of the model where the text is not a choice."""
    number, _colon, key = choice.partition(":")
    try:
        model = content_type_model(int(number)) if PAGE_NUMBER.fullmatch(number) else None
    except ContentType.DoesNotExist:
        model = None
    return (model if model in choice_models() else None), key


PAGE_NUMBER = re.compile("[0-9]{1,9}")
"""Python refuses to read thousands of digits, and no content type or page has more."""


class ProductSelect(AutocompleteMixin, forms.Select):
    """A select that loads its options as the admin's autocomplete fields do; the page has only the chosen one.

    ``products``: as for ``ProductChoice``. A choice that the user may not see is shown by its key.
    """

    products: Any = None

    url_name = "%s:django_visual_search_rankingrule_products"

    def get_url(self) -> str:
        return reverse(self.url_name % self.admin_site.name)

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        options = [] if self.is_required else [self.create_option(name, "", "", False, 0)]
        for choice in filter(None, value):
            option = self.create_option(name, choice, self._title(choice), True, len(options))
            option["attrs"]["data-picture"] = self._picture(choice)
            options.append(option)
        return [(None, options, 0)]

    def _product(self, choice: str) -> Model | None:
        model, text = split_choice(choice)
        key = primary_key(model, text) if model else None
        found: Model | None = self.products(model).filter(pk=key).first() if model and key is not None else None
        return found

    def _title(self, choice: str) -> str:
        product = self._product(choice)
        return split_choice(choice)[1] if product is None else choice_label(product)

    def _picture(self, choice: str) -> str:
        product = self._product(choice)
        return "" if product is None else product_thumbnails(product._meta.model, [product]).get(product.pk, "")

    @property
    def media(self) -> Any:
        return super().media + forms.Media(js=[forms.Script("django_visual_search/admin_choice.js", defer=True)])


class ProductChoice(forms.CharField):
    """Cleans to a choice of an existing product. ``products``: model -> products that the user may see."""

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


def choice_label(product: Model) -> str:
    """Return the product's name, with its model's where there are several."""
    name = title_of(product)
    return name if len(choice_models()) == 1 else f"{name} ({product._meta.verbose_name})"


def page_number(request: HttpRequest) -> int:
    """Return the page of choices that the request names. Raise ValidationError if it isn't a page's number."""
    number = request.GET.get("page", "1")
    if not PAGE_NUMBER.fullmatch(number):
        raise ValidationError(gettext("This page does not exist."))
    return min(max(int(number), 1), 1000)


def product_choices(admin_site: Any, request: HttpRequest, term: str, number: int) -> tuple[list[dict[str, str]], bool]:
    """Return page ``number`` of the products that match, with pictures, and whether there are more."""
    first = CHOICES_PAGE * (number - 1)
    results: list[dict[str, str]] = []
    more = False
    for model in choice_models():
        found = list(search_rows(admin_site, request, model, term)[first : first + CHOICES_PAGE + 1])
        more = more or len(found) > CHOICES_PAGE
        content_type = ContentType.objects.get_for_model(model).pk
        thumbnails = product_thumbnails(model, found[:CHOICES_PAGE])
        results += [
            {
                "id": choice_of(content_type, str(product.pk)),
                "text": choice_label(product),
                "picture": thumbnails.get(product.pk, ""),
            }
            for product in found[:CHOICES_PAGE]
        ]
    return results, more


def search_rows(admin_site: Any, request: HttpRequest, model: type[Model], term: str) -> QuerySet[Any]:
    """Return the rows that the model's own admin finds; without one, those with the term in a text column."""
    queryset = visible_products(admin_site, request, model)
    if not term:
        return queryset.order_by("pk")
    if admin_site.is_registered(model) and admin_site.get_model_admin(model).get_search_fields(request):
        found, repeats = admin_site.get_model_admin(model).get_search_results(request, queryset, term)
        return (found.distinct() if repeats else found).order_by("pk")
    names = [f.name for f in model._meta.concrete_fields if type(f) is CharField and not f.choices]
    texts = reduce(or_, (Q(**{f"{name}__icontains": term}) for name in names), Q(pk=primary_key(model, term)))
    return queryset.filter(texts).order_by("pk")
