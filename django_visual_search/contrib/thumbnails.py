"""Ready values of ``VISUAL_SEARCH["THUMBNAIL"]``, one for each package that makes thumbnails.

Each takes the picture of a product and a size in pixels, and returns the URL of a version that fits into a square of
that size, with its proportions kept. The package itself is imported when the first thumbnail is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

QUALITY = 80


def sorl(picture: Any, size: int) -> str:
    """Return a thumbnail of sorl-thumbnail (``"sorl.thumbnail"`` in ``INSTALLED_APPS``)."""
    from sorl.thumbnail import get_thumbnail

    return str(get_thumbnail(picture, f"{size}x{size}", upscale=False, quality=QUALITY).url)


def easy_thumbnails(picture: Any, size: int) -> str:
    """Return a thumbnail of easy-thumbnails (``"easy_thumbnails"`` in ``INSTALLED_APPS``)."""
    from easy_thumbnails.files import get_thumbnailer

    return str(get_thumbnailer(picture).get_thumbnail({"size": (size, size), "quality": QUALITY}).url)


def imagekit(picture: Any, size: int) -> str:
    """Return a thumbnail of django-imagekit (``"imagekit"`` in ``INSTALLED_APPS``), or the original until it exists.

    A picture that can't be read has only its original. Needs no query.
    """
    from imagekit import ImageSpec
    from imagekit.cachefiles import ImageCacheFile
    from imagekit.processors import ResizeToFit

    class Thumbnail(ImageSpec):
        processors = [ResizeToFit(size, size, upscale=False)]
        format = "WEBP"
        options = {"quality": QUALITY}

    file = ImageCacheFile(Thumbnail(picture))
    file.generate()  # unless it exists; imagekit itself only looks after generators that were registered
    return str((file if file.cachefile_backend.exists(file) else picture).url)


def pictures(picture: Any, size: int) -> str:
    """Return the smallest version that django-pictures has of a PictureField and that is as wide as ``size``."""
    versions = next(iter(picture.aspect_ratios[None].values()))
    wide = [width for width in versions if width >= size]
    return str(versions[min(wide)].url if wide else versions[max(versions)].url)


def oscar(picture: Any, size: int) -> str:
    """Return a thumbnail of the thumbnailer that django-oscar uses."""
    from oscar.core.thumbnails import get_thumbnailer

    return str(get_thumbnailer().generate_thumbnail(picture, size=f"{size}x{size}", upscale=False).url)


def wagtail(picture: Any, size: int) -> str:
    """Return a Wagtail image's rendition, a square cropped around the focal point; of another picture, the original."""
    return str(picture.instance.get_rendition(_filter_spec(size)).url if _is_wagtails(picture) else picture.url)


def _prepare_renditions(pictures: Sequence[Any], *sizes: int) -> None:
    """Read the renditions of all these pictures and sizes at once."""
    images = [picture.instance for picture in pictures if _is_wagtails(picture)]
    if images:
        made = images[0].get_rendition_model().objects.filter(filter_spec__in=map(_filter_spec, sizes))
        prefetch_related_objects(images, Prefetch("renditions", made, to_attr="prefetched_renditions"))


wagtail.prepare = _prepare_renditions  # type: ignore[attr-defined]


def _filter_spec(size: int) -> str:
    return f"fill-{size}x{size}"


def _is_wagtails(picture: Any) -> bool:
    from wagtail.images.models import AbstractImage

    return isinstance(picture.instance, AbstractImage)
