"""The photo that was searched with, shown back without being kept."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

from .. import images
from ..fields import EmbeddingField
from ..spaces.extractors import extractor_of

SIDE = 360
"""Pixels."""
QUALITY = 82
MEMORY = 100 * 2**20
"""Most bytes that decoding for it may take: any JPEG, 12 megapixels of HEIC. Above, it costs more than it is worth."""


def preview(photo: bytes, field: EmbeddingField, side: int = SIDE) -> str:
    """The photo's middle as a data URL of a square JPEG, whatever its format: few browsers show HEIC.

    Empty where that would take too much. Raises images.ImageRefused for what is not accepted as a photo at all.
    """
    options = extractor_of(field).spec.images
    small = replace(options, trim=False, fit="center-crop", max_memory=min(MEMORY, options.max_memory))
    try:
        picture = images.load(photo, options=small, size=side)
    except images.ImageRefused as refused:
        if refused.code == "pixels":
            return ""
        raise
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
