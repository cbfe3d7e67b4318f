"""``{% load shop %}``: pictures in the sizes that pages need, and the demo's sample photos."""

from __future__ import annotations

from django import template
from django.db.models.fields.files import ImageFieldFile
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_visual_search.contrib.thumbnails import imagekit

from ..samples import Sample, samples

register = template.Library()


@register.simple_tag
def picture(image: ImageFieldFile, size: int, alt: str = "", loading: str = "lazy") -> SafeString:
    """``{% picture product.image 240 product.name %}``: the image, ``size`` pixels wide, and a sharper one."""
    return format_html(
        '<img src="{}" srcset="{} 2x" alt="{}" width="{}" height="{}" loading="{}">',
        *(imagekit(image, size), imagekit(image, 2 * size), alt, size, size, loading),
    )


@register.simple_tag
def sample_photos() -> list[Sample]:
    """``{% sample_photos as samples %}``: none before ``manage.py demo`` has run."""
    return samples()
