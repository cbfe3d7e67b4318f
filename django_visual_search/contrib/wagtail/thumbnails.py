"""Thumbnails as Wagtail's renditions: ``rendition`` is an entry for ``VISUAL_SEARCH["THUMBNAIL"]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from wagtail.images.models import AbstractImage


def filter_spec(size: int) -> str:
    """Return Wagtail's name of a square that is cropped around the focal point."""
    return f"fill-{size}x{size}"


def rendition(picture: Any, size: int) -> str:
    """Return the URL of the picture's rendition, a square of ``size`` pixels; made now where there is none yet.

    Of a picture that is not the file of a Wagtail image, its own URL.
    """
    image = picture.instance
    return str(image.get_rendition(filter_spec(size)).url if isinstance(image, AbstractImage) else picture.url)


def prepare(pictures: Sequence[Any], *sizes: int) -> None:
    """Read the renditions of all these pictures and sizes at once."""
    images = [picture.instance for picture in pictures if isinstance(picture.instance, AbstractImage)]
    if images:
        made = images[0].get_rendition_model().objects.filter(filter_spec__in=map(filter_spec, sizes))
        prefetch_related_objects(images, Prefetch("renditions", made, to_attr="prefetched_renditions"))


rendition.prepare = prepare  # type: ignore[attr-defined]
