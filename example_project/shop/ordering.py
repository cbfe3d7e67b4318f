"""Place orders and report them to visual search."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest

from django_visual_search import feedback

from .models import Order, OrderLine, Product


class SoldOut(Exception):  # noqa: N818 (a state, not a fault)
    pass


@transaction.atomic
def buy_one(product: Product, request: HttpRequest) -> Order:
    """Order one piece. Raises SoldOut."""
    if not Product.objects.filter(pk=product.pk, stock__gt=0).update(stock=F("stock") - 1):
        raise SoldOut
    user = request.user if request.user.is_authenticated else None
    order = Order.objects.create(customer=user, email=getattr(user, "email", ""))
    line = OrderLine.objects.create(order=order, product=product, price=product.price)
    # Only the server reports purchases; the visitor's click links the purchase to its search.
    feedback.record("purchase", product, request=request, reference=f"order line {line.pk}")
    return order
