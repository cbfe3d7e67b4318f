"""Which products visitors may see: entries for ``VISUAL_SEARCH["VISIBLE"]``."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from oscar.core.loading import get_model


def public(request: HttpRequest | None = None) -> QuerySet[Any]:
    """Return the public products, with what Oscar's cards read of them; children only of public parents.

    Of these, searches find parents and standalone products, because the companion's paths lead there. Children are
    asked about.
    """
    products: QuerySet[Any] = get_model("catalogue", "Product").objects.public().base_queryset()
    return products.filter(Q(parent=None) | Q(parent__is_public=True))


def buyable(request: HttpRequest | None = None) -> QuerySet[Any]:
    """Return the public products that can be bought, children and standalone: for companions that find children."""
    products = public(request)
    return products.exclude(structure=products.model.PARENT)
