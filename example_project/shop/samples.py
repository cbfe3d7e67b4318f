"""The demo's own photos, for visitors who want to try the photo search without a photo of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.images import ImageFile
from django.urls import reverse

from django_visual_search.contrib.thumbnails import imagekit

from .models import Category

SIDE = 160
"""Pixels of their pictures on a page."""
SENT = 1024
"""Pixels of what the photo search's script sends, as it does of a visitor's photo."""


@dataclass(frozen=True)
class Sample:
    title: str
    url: str
    """Of the page that searches by the photo."""
    photo: str
    """URL of the photo, for the script that searches in place."""
    thumbnail: str
    sharp: str
    """The thumbnail for sharp screens."""


def photo_folder() -> Path:
    return Path(settings.MEDIA_ROOT).parent / "photos"


def sample_photos() -> list[Path]:
    """Return the files that ``manage.py demo`` has made, each named by the product's SKU and a scene."""
    return sorted(photo_folder().glob("*.jpg"))


def samples() -> list[Sample]:
    """Return what a page shows of each photo."""
    photos = sample_photos()
    skus = {photo: photo.stem.rpartition("-")[0].upper() for photo in photos}
    names = dict(Category.objects.filter(products__sku__in=skus.values()).values_list("products__sku", "name"))
    return [
        Sample(
            names.get(skus[photo], photo.stem),
            reverse("shop:sample", args=[photo.stem]),
            _thumbnail(photo, SENT),
            _thumbnail(photo, SIDE),
            _thumbnail(photo, 2 * SIDE),
        )
        for photo in photos
    ]


def _thumbnail(photo: Path, size: int) -> str:
    with photo.open("rb") as file:
        return imagekit(ImageFile(file, name=f"samples/{photo.name}"), size)
