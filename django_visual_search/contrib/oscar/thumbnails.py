"""Thumbnails by the thumbnailer that Oscar uses: an entry for ``VISUAL_SEARCH["THUMBNAIL"]``."""

from __future__ import annotations

from typing import Any

from oscar.core.thumbnails import get_thumbnailer


def thumbnail(picture: Any, size: int) -> str:
    """Return the URL of a version of the picture that fits into a square of ``size`` pixels."""
    return str(get_thumbnailer().generate_thumbnail(picture, size=f"{size}x{size}", upscale=False).url)
