"""``{% load shop %}``: pictures in the sizes that pages need, and the demo's sample photos."""

from __future__ import annotations

from django import template
from django.db.models.fields.files import ImageFieldFile
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_visual_search.storefront.cards import thumbnail_of

from ..samples import Sample, samples

register = template.Library()


@register.simple_tag
def picture(image: ImageFieldFile, size: int, alt: str = "", loading: str = "lazy") -> SafeString:
    """``{% picture product.image 240 product.name %}``: the image, ``size`` pixels wide, and a sharper one.

    Nothing where the file is broken or gone.
    """
    if not (url := thumbnail_of(image, size)):
        return SafeString("")
    return format_html(
        '<img src="{}" srcset="{} 2x" alt="{}" width="{}" height="{}" loading="{}">',
        *(url, thumbnail_of(image, 2 * size), alt, size, size, loading),
    )


@register.simple_tag
def sample_photos() -> list[Sample]:
    """``{% sample_photos as samples %}``: none before ``manage.py demo`` has run."""
    return samples()
