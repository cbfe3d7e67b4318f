"""The picture that a product is searched by."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from ..fields import EmbeddingField
from ..fields.registry import fields_of_product, get_field
from .candidates import product_pk
from .nearest import Query
from .query import Stored


def only_field(product: Model) -> EmbeddingField:
    """The embedding field that a product or companion row is searched by: the first of several."""
    fields = fields_of_product(type(product))
    for field in fields:
        if isinstance(product, field.model):
            return field
    if fields:
        return fields[0]
    return get_field(type(product)._meta.label)


def own_picture(field: EmbeddingField, instance: Model) -> tuple[Stored, Any]:
    """The picture that stands for the product, and the product's primary key; None where the search is to find it."""
    known = owner = None
    pk = instance.pk
    if isinstance(instance, field.model):
        # An instance may be older than its vector; an attribute that was never set would cost a query of its own.
        vector, key = instance.__dict__.get(field.attname), instance.__dict__.get(field.key_name)
        if vector is not None and key:
            known = Query(vector, key.partition(":")[0])
        rows = field.model._base_manager.filter(pk=pk)
        if field.product:
            owner, pk = rows.values_list(product_pk(field), flat=True), None
    else:
        rows = field.model._default_manager.filter(**{product_pk(field): pk})
    embedded = rows.filter(**{f"{field.name}__isnull": False, f"{field.key_name}__isnull": False})
    if not embedded.ordered:
        embedded = embedded.order_by("pk")
    return Stored(field, embedded, known, owner), pk
