"""The picture that a product is searched by."""

from __future__ import annotations

from typing import Any

from django.db import connections, router
from django.db.models import Model

from . import serving
from .candidates import product_pk
from .fields import EmbeddingField
from .nearest import Query
from .queries import Stored
from .registry import fields_of_product, get_field
from .statements import compile_query, execute_together


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
    """The picture that stands for the product, and the primary key of the product."""
    known = None
    if isinstance(instance, field.model):
        # An instance may be older than its vector; an attribute that was never set would cost a query of its own.
        vector, key = instance.__dict__.get(field.attname), instance.__dict__.get(field.key_name)
        pk = instance.pk
        if field.product:
            pk = _product_of(field, instance)
        if vector is not None and key:
            known = Query(vector, key.partition(":")[0])
        rows = field.model._base_manager.filter(pk=instance.pk)
    else:
        pk = instance.pk
        rows = field.model._default_manager.filter(**{product_pk(field): pk})
    embedded = rows.filter(**{f"{field.name}__isnull": False, f"{field.key_name}__isnull": False})
    if not embedded.ordered:
        embedded = embedded.order_by("pk")
    return Stored(field, embedded, known), pk


def _product_of(field: EmbeddingField, row: Model) -> Any:
    """The primary key of a row's product; what serves the field is asked in the same round trip."""
    using = router.db_for_read(field.model)
    rows = field.model._base_manager.using(using).filter(pk=row.pk).values_list(product_pk(field))
    about = serving.asked(field, connections[using])
    found, *answers = execute_together(connections[using], [compile_query(rows, using), *about])
    for answer in answers:
        serving.learn(field, connections[using], answer)
    return found[0][0] if found else None
