"""The form by which shoppers send a photo: two ways to choose one, no script needed.

The photo that was searched with, shown back without being kept.
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

from .. import images
from ..fields import EmbeddingField
from ..fields.registry import get_field, named_model
from ..spaces.extractors import extractor_of


class PhotoSearchForm(forms.Form):
    """What counts as a picture is for ``images`` to say, which takes more formats than an ImageField."""

    image = forms.FileField(
        label=_("Your photo"),
        error_messages={
            "required": _("Choose a photo first."),
            "empty": _("The file is empty. Choose a picture."),
            "invalid": _("Choose a photo first."),
        },
    )


def photo_form_context(label: str, action: str | None = None) -> dict[str, Any]:
    """What the form's template gets. ``label``: ``app.Model``; ``action``: the address that takes the photo.

    Raises LookupError for a model whose products have no embedding field, and ImproperlyConfigured where neither an
    action nor ``django_visual_search.urls`` is there.
    """
    field = get_field(label)
    model = named_model(label)
    if model is None or not issubclass(model, field.product_model):
        raise LookupError(f"Name the products' model, as in {field.product_model._meta.label!r}, not {label!r}.")
    return {
        "form": PhotoSearchForm(),
        "action": photo_search_address(model) if action is None else action,
        "products": model._meta.verbose_name_plural,
    }


def searched_by_photo(label: str) -> EmbeddingField:
    """The field by which the photo search page finds products of ``app.Model``. Raises LookupError where it does not.

    Not a proxy's or a child's: anybody can write an address, and their managers may show more than the model's own.
    """
    field = get_field(label)
    if named_model(label) is not field.product_model:
        raise LookupError(f"Photos find {field.product_model._meta.label}, not {label}.")
    return field


def photo_search_address(model: type[Model]) -> str:
    """Address of the photo search page for this model. Raises as ``photo_form_context``."""
    searched_by_photo(model._meta.label)
    options = model._meta
    try:
        return reverse("visual_search:photo_search", args=[options.app_label, options.model_name])
    except NoReverseMatch as e:
        raise ImproperlyConfigured(
            'The photo search form leads nowhere: add path("visual-search/", include("django_visual_search.urls")) to '
            "the project's URLs, or give the form an action."
        ) from e


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
