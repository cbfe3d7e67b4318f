"""Find the objects in a photo, by ``VISUAL_SEARCH["DETECTOR"]`` or by the regions to which a network responds.

Entry function: ``objects_in``. The network is that of ``extractors.objects``, whichever extractor embeds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables
from PIL import Image

from .. import images
from ..conf import conf
from ..decoding.photos import decode_whole
from ..extractors import objects
from ..extractors.detector import DetectionModel
from ..fields import EmbeddingField
from ..images import Box, Photo
from ..spaces.extractors import cache_directory, extractor_of

MOST_OBJECTS = 8
"""Most objects of a photo, the whole picture included."""

DETAIL = 896
"""Pixels of the longest side at which a photo is decoded: a box of a quarter of it then has the 224 of a network."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class FoundObject:
    """A part of a photo that looks like a thing."""

    box: Box
    """``(x0, y0, x1, y1)`` in fractions of the photo as a person sees it, as ``crop`` takes it."""
    score: float
    """Expected fit of the box, or the detector's score: 0 to 1; 0 for the whole picture."""
    name: str = ""
    """The detector's name for it, if any."""


@sensitive_variables("file", "photo")
def whole_photo(field: EmbeddingField, file: Photo) -> Image.Image:
    """Return a photo, upright and in RGB, with about DETAIL pixels; it is decoded in a process of its own.

    Raises as ``decode_photo``.
    """
    options = extractor_of(field).spec.images
    photo = images.read_picture(file, options.max_bytes)
    return Image.fromarray(decode_whole(photo, options, DETAIL))


def objects_in(picture: Image.Image) -> list[FoundObject]:
    """Return the result of ``find_objects`` for a ``whole_photo``."""
    most = MOST_OBJECTS - 1
    detect = detector()
    if detect is None:
        side = objects.SIDE
        pixels = np.asarray(picture.resize((side, side), Image.Resampling.HAMMING))
        boxes = objects.boxes_from_maps(objects.network_maps(cache_directory(), pixels), most)
        found = [FoundObject(box, score) for box, score in boxes]
    else:
        found = [_checked(one) for one in detect(picture)][:most]
    return [*found, FoundObject(WHOLE, 0.0)]


@functools.cache
def detector() -> Any:
    """Return the setting ``DETECTOR`` as a callable, from a picture to boxes; None without one.

    Raises ImproperlyConfigured where it can't be imported.
    """
    setting = conf.DETECTOR
    if isinstance(setting, dict):
        return DetectionModel(Path(setting["MODEL"]), Path(setting["LABELS"]), setting.get("LEAST_SCORE", 0.3))
    if isinstance(setting, str):
        try:
            return import_string(setting)
        except ImportError as e:
            raise ImproperlyConfigured(f"VISUAL_SEARCH['DETECTOR']: {e}") from e
    return setting


@receiver(setting_changed)
def forget_detector(*, setting: str, **kwargs: Any) -> None:
    if setting == "VISUAL_SEARCH":
        detector.cache_clear()


def _checked(one: Any) -> FoundObject:
    """Return an entry of a detector: a box, or (box, score), or (box, score, name)."""
    try:
        parts = tuple(one)
        box, score, name = parts if len(parts) == 3 else (*parts, "") if len(parts) == 2 else (parts, 0.0, "")
        return FoundObject(images.check_crop(box), float(score), str(name))
    except (TypeError, ValueError) as e:
        raise ImproperlyConfigured(
            f"VISUAL_SEARCH['DETECTOR'] returned {one!r}: it must return boxes (x0, y0, x1, y1) in fractions of the "
            "picture, each alone or as (box, score) or (box, score, name)."
        ) from e
