"""The products that a visitor may see."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest

from .models import Product


def visible_products(request: HttpRequest | None = None) -> QuerySet[Product]:
    """Return published products, and to staff all products."""
    user = getattr(request, "user", None)
    if user is not None and user.is_staff:
        return Product.objects.all()
    return Product.objects.filter(is_published=True)
