"""``{% load visual_search_oscar %}``: hits as cards of Oscar's own."""

from __future__ import annotations

from typing import Any

from django import template

from ....storefront.cards import Card

register = template.Library()


@register.filter
def as_product(card: Card) -> Any:
    """Return the card's product for ``{% render_product %}``, with the picture that matched as its primary image.

    A parent's pictures may be its children's, of which Oscar knows nothing: it would show the missing image.
    """
    product, row = card.hit.product, card.hit.row
    if row is not None and card.picture:
        picture = row.image
        product.primary_image = lambda: picture
    return product
