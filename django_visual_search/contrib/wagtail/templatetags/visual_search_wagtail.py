"""``{% similar_images image %}`` on the page of an image."""

from __future__ import annotations

from typing import Any

from django import template

from ..panels import field_of_images, similar_images

register = template.Library()


@register.inclusion_tag("visual_search/wagtail/section.html", takes_context=True, name="similar_images")
def similar_images_section(context: template.Context, image: Any) -> dict[str, Any]:
    """Show images that look like this one, of those that the request's user may choose."""
    request = context["request"]
    return {
        "request": request,
        "shown": field_of_images() is not None,
        "images": similar_images(image, request.user),
    }
