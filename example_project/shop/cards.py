"""What the shop's cards say of a product, also those that visual search shows."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from .models import Product


def card(product: Product, request: HttpRequest | None = None) -> dict[str, Any]:
    """Return price, stock, and what may be worth naming where a similar product has it too."""
    return {
        "price": _("€ %(amount)s") % {"amount": number_format(product.price, 2, force_grouping=True)},
        "sold_out": not product.stock,
        "same": {_("Same colour"): product.colour},
    }
