"""The form in which shoppers send a photo, and the preview that shows it back without keeping it.

Entry functions: ``photo_form_context`` for the form's template, ``preview``.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from PIL import Image

from .. import images
from ..decoding.photos import decode_photo
from ..fields import EmbeddingField
from ..fields.registry import get_field, named_model
from ..spaces.extractors import extractor_of


class PhotoSearchForm(forms.Form):
    """A FileField, not an ImageField: ``images`` decides, and accepts more formats."""

    image = forms.FileField(
        label=_("Your photo"),
        error_messages={
            "required": _("Choose a photo first."),
            "empty": _("The file is empty. Choose a picture."),
            "invalid": _("Choose a photo first."),
        },
    )


def photo_form_context(label: str, action: str | None = None) -> dict[str, Any]:
    """Return the context of the form's template. ``label``: ``app.Model``; ``action``: the URL that takes the photo.

    Raises LookupError for a model whose products have no embedding field, and ImproperlyConfigured without an action
    in a project that doesn't include ``django_visual_search.urls``.
    """
    field = get_field(label)
    model = named_model(label)
    if model is None or not issubclass(model, field.product_model):
        raise LookupError(f"Name the products' model, as in {field.product_model._meta.label!r}, not {label!r}.")
    return {
        "form": PhotoSearchForm(),
        "action": photo_search_url(model) if action is None else action,
        "products": model._meta.verbose_name_plural,
    }


def photo_search_field(label: str) -> EmbeddingField:
    """Return the field that the photo search page searches for ``app.Model``. Raises LookupError without one.

    A proxy or a child has none: anybody can write a URL, and their managers may show more than the model's own.
    """
    field = get_field(label)
    if named_model(label) is not field.product_model:
        raise LookupError(f"Photos find {field.product_model._meta.label}, not {label}.")
    return field


def photo_search_url(model: type[Model]) -> str:
    """Return the URL of the photo search page for this model. Raises as ``photo_form_context``."""
    photo_search_field(model._meta.label)
    options = model._meta
    try:
        return reverse("visual_search:photo_search", args=[options.app_label, options.model_name])
    except NoReverseMatch as e:
        raise ImproperlyConfigured(
            'The photo search form leads nowhere: add path("visual-search/", include("django_visual_search.urls")) to '
            "the project's URLs, or give the form an action."
        ) from e


class Preview(str):
    """A data URL of somebody's photo, of which error reports show nothing."""

    def __repr__(self) -> str:
        return "<preview of a photo>" if self else "''"


PREVIEW_SIDE = 360
"""Pixels."""
PREVIEW_QUALITY = 82
PREVIEW_MEMORY = 100 * 2**20
"""Most bytes that decoding a preview may take: any JPEG, 12 megapixels of HEIC."""


@sensitive_variables("photo")
def preview(photo: images.Photo, field: EmbeddingField, side: int = PREVIEW_SIDE) -> Preview:
    """Return the middle of the photo as a data URL of a square JPEG: few browsers show HEIC.

    Empty where that would take too much memory or time. Raises as ``search.search_by_image``.
    """
    options = extractor_of(field).spec.images
    small = replace(options, trim=False, fit="center-crop", max_memory=min(PREVIEW_MEMORY, options.max_memory))
    try:
        pixels = decode_photo(images.read_picture(photo, options.max_bytes), small, side)
    except images.ImageRefused as refused:
        if refused.code in ("pixels", "memory", "time"):
            return Preview()
        raise
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=PREVIEW_QUALITY)
    return Preview("data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode())
