"""The form in which shoppers send a photo, and the preview that shows it back without keeping it.

Entry functions: ``photo_form_context`` for the form's template, ``preview``.
"""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import replace
from typing import Any

from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseFailure
from django.db.models import Model
from django.forms.utils import ErrorDict
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from PIL import Image

from .. import images
from ..decoding.photos import decode_photo
from ..fields import EmbeddingField
from ..fields.registry import get_field, named_model
from ..images.options import EMPTY_FILE
from ..search.words import LONGEST_TEXT, understands_text
from ..spaces.extractors import extractor_of

logger = logging.getLogger("django_visual_search")


class PhotoSearchForm(forms.Form):
    """A FileField, not an ImageField: ``images`` decides, and accepts more formats."""

    image = forms.FileField(
        label=_("Your photo"),
        error_messages={
            "required": _("Choose a photo first."),
            "empty": _(EMPTY_FILE),
            "invalid": _("Choose a photo first."),
        },
    )
    text = forms.CharField(required=False, max_length=LONGEST_TEXT)
    crop_left, crop_top, crop_right, crop_bottom = (
        forms.FloatField(required=False, min_value=0, max_value=100) for _edge in range(4)
    )

    def clean(self) -> dict[str, Any]:
        """Add ``crop``: the part to search by, in fractions of the photo; None for all of it. Edges are percentages."""
        data: dict[str, Any] = super().clean() or {}
        edges = [data.get(f"crop_{edge}") for edge in CROP_EDGES]
        data["crop"] = None
        if any(edge is not None for edge in edges):
            usual = (0.0, 0.0, 100.0, 100.0)
            x0, y0, x1, y1 = (usual[i] / 100 if edge is None else edge / 100 for i, edge in enumerate(edges))
            data["crop"] = (x0, y0, x1, y1)
            if x0 >= x1 or y0 >= y1:
                self.add_error(None, _("The left edge has to be left of the right one, and the top above the bottom."))
        return data

    def add_error_of_page(self, sentence: str, field: str | None = None) -> None:
        """Add an error to a form that may not have been sent."""
        if not self.is_bound:
            self._errors: Any = ErrorDict()
            self.cleaned_data: dict[str, Any] = {}
        self.add_error(field, sentence)

    @property
    def crop_fields(self) -> list[Any]:
        """Return label, name and value of the fields for the edges."""
        labels = (_("Left"), _("Top"), _("Right"), _("Bottom"))
        return [
            (label, f"crop_{edge}", self[f"crop_{edge}"].value() or "")
            for label, edge in zip(labels, CROP_EDGES, strict=True)
        ]


CROP_EDGES = ("left", "top", "right", "bottom")


def photo_form_context(
    label: str, action: str | None = None, *, compact: bool = False, nonce: str = ""
) -> dict[str, Any]:
    """Return the context of the form's template. ``label``: ``app.Model``; ``action``: the URL that takes the photo.

    ``compact``: a button for a header instead of the whole form; ``nonce``: of the script's tag, for a CSP. Raises
    LookupError for a model whose products have no embedding field, and ImproperlyConfigured without an action in a
    project that doesn't include ``django_visual_search.urls``.
    """
    field = get_field(label)
    model = named_model(label)
    if model is None or not issubclass(model, field.product_model):
        raise LookupError(f"Name the products' model, as in {field.product_model._meta.label!r}, not {label!r}.")
    return {
        "form": PhotoSearchForm(),
        "action": photo_search_url(model) if action is None else action,
        "products": model._meta.verbose_name_plural,
        "compact": compact,
        "nonce": nonce,
        "objects_url": _objects_url(field.product_model),
        "takes_text": not compact and _takes_text(field),
        "most_bytes": images.ImageOptions().max_bytes,
    }


def _takes_text(field: EmbeddingField) -> bool:
    """Return whether the form asks for words, too; not while the database fails, when it shows the reason instead."""
    try:
        return understands_text(field)
    except DatabaseFailure as e:
        logger.warning("visual search: the form asks for no words: %s: %s", type(e).__name__, e)
        return False


def _objects_url(model: type[Model]) -> str:
    """Return the URL that finds the objects in a photo; empty where the project doesn't include our URLs."""
    try:
        return reverse("visual_search:objects", args=[model._meta.app_label, model._meta.model_name])
    except NoReverseMatch:
        return ""


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
    """A data URL of a shopper's photo, hidden from error reports."""

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
