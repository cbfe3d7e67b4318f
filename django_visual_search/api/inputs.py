"""Serializers of requests: a search's options, a photo as a file or in JSON, and a report of feedback.

Fields refuse a wrong value with a sentence that says what would be right.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.request import Request

from ..images import ImageRefused, check_crop
from ..search.words import LONGEST_TEXT
from ..storefront.refusals import translated

STRING: dict[str, Any] = {"type": "string", "example": "0.1,0.1,0.9,0.9"}
ARRAY_OF_FOUR: dict[str, Any] = {
    "type": "array",
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": 4,
    "maxItems": 4,
}
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
DATA_URL: dict[str, Any] = {"type": "string", "pattern": "^data:[a-z/+.-]*;base64,[A-Za-z0-9+/]*={0,2}$"}

Decorator = Callable[[Any], Any]

# From the settings, as importing drf-spectacular takes long, and it may be installed for something else.
HAS_SPECTACULAR = "drf_spectacular" in settings.INSTALLED_APPS


def described_as(schema: dict[str, Any]) -> Decorator:
    """Return a decorator that gives a serializer field its OpenAPI schema; it does nothing without drf-spectacular."""
    if not HAS_SPECTACULAR:
        return undecorated
    from drf_spectacular.utils import extend_schema_field

    return extend_schema_field(schema)


def undecorated(decorated: Any) -> Any:
    return decorated


LONGEST_NUMBER = 40
"""Characters. Python takes long to read longer numbers."""


class LimitField(serializers.IntegerField):
    """Hits on a page: a whole number from 1 to the maximum in the serializer's context (``limits``)."""

    def to_internal_value(self, data: Any) -> int:
        _default, most = self.context["limits"]
        text = str(data).strip()
        if isinstance(data, int | str) and not isinstance(data, bool) and re.fullmatch(r"\+?[0-9]{1,9}", text):
            value = int(text)
            if 1 <= value <= most:
                return value
        message = _("This must be a whole number from 1 to %(most)s.") % {"most": most}
        raise serializers.ValidationError(message, code="invalid")


class SimilarityField(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or len(str(data)) > LONGEST_NUMBER:
            self.fail("invalid")
        value = float(super().to_internal_value(data))
        if not math.isfinite(value):
            raise serializers.ValidationError(_("This must be a finite number, such as 0.5."), code="invalid")
        return value


class CropField(serializers.Field):
    """A box: the text ``x0,y0,x1,y1`` or a list of the four, in fractions of the upright photo."""

    def to_internal_value(self, data: Any) -> tuple[float, float, float, float]:
        numbers = data.split(",") if isinstance(data, str) else data
        if not isinstance(numbers, list) or any(isinstance(n, bool) or len(str(n)) > LONGEST_NUMBER for n in numbers):
            numbers = None  # check_crop refuses it
        try:
            return check_crop(numbers)
        except ImageRefused as refused:
            raise serializers.ValidationError(translated(refused), code=refused.code) from None

    def to_representation(self, value: Any) -> Any:
        return list(value)


@described_as(STRING)
class CropTextField(CropField):
    pass


@described_as(ARRAY_OF_FOUR)
class CropListField(CropField):
    pass


@described_as(BINARY)
class PhotoField(serializers.Field):
    """An uploaded file. ``images.load`` decides whether it is a picture."""

    default_error_messages = {
        "required": gettext_lazy("Send the photo as a file in the form field 'image', by multipart/form-data.")
    }

    def to_internal_value(self, data: Any) -> UploadedFile:
        if not isinstance(data, UploadedFile):
            raise serializers.ValidationError(_("Send the photo as a file, with a file name."), code="invalid")
        return data


@described_as(DATA_URL)
class DataURLField(serializers.Field):
    """``data:image/jpeg;base64,...``, as from a canvas (RFC 2397). The media type is ignored."""

    default_error_messages = {"required": gettext_lazy("Send the photo as a data URL, as 'image'.")}

    def to_internal_value(self, data: Any) -> io.BytesIO:
        if isinstance(data, str):
            head, comma, text = data.partition(",")
            if comma and head[:5].lower() == "data:" and head[-7:].lower() == ";base64":
                try:
                    return io.BytesIO(base64.b64decode(text, validate=True))  # an error report shows its type only
                except (binascii.Error, ValueError):
                    pass
        message = _("Send the photo as a data URL: data:image/jpeg;base64, followed by the file in base64.")
        raise serializers.ValidationError(message, code="invalid")


class SearchOptions(serializers.Serializer):
    """The options of every search. A field that the serializer doesn't have is an error."""

    limit = LimitField(required=False, min_value=1, help_text="Hits on a page.")
    min_similarity = SimilarityField(required=False, help_text="Leave out hits that are less similar.")
    min_confidence = SimilarityField(
        required=False,
        min_value=0,
        max_value=1,
        help_text="Leave out hits that are less likely to be what the query shows.",
    )
    ranking = serializers.BooleanField(
        default=True, help_text="Whether feedback, pins and the like may change the visual order."
    )

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            # A form's data would make a missing boolean False; and an empty field of a form is a missing one.
            is_form = isinstance(data, MultiValueDict)
            data = {name: data[name] for name in data if not (is_form and data[name] == "")}
            unknown = data.keys() - self.fields.keys() - {"csrfmiddlewaretoken"}
            if unknown:
                message = _("Unknown field. Accepted fields: %(known)s.") % {"known": ", ".join(self.fields)}
                # JSON may have half a surrogate pair, which no response could repeat.
                names = sorted(str(name).encode(errors="replace").decode() for name in unknown)
                raise serializers.ValidationError({name: [message] for name in names}, code="unknown")
        return super().to_internal_value(data)


class WordsField(serializers.CharField):
    """A text to search by, alone or beside a picture."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=LONGEST_TEXT, **kwargs)


class BesidePicture(SearchOptions):
    """The options of a search by a picture, which words may change."""

    text = WordsField(
        required=False,
        help_text='Words beside the picture, as in "like this, but blue". Where nothing here understands texts and the '
        "view has a search box (`search_fields`), only what that finds is searched.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("text") and attrs.get("min_confidence") is not None:
            message = _("Leave this out: with a text, hits have no confidence.")
            raise serializers.ValidationError({"min_confidence": [message]}, code="invalid")
        return attrs


class ByHandle(BesidePicture):
    """The options of a further search by a photo."""

    handle = serializers.CharField(
        required=False, max_length=200, help_text="The `handle` of an earlier answer: the photo is not sent again."
    )


class TextSearch(SearchOptions):
    """A search by text."""

    text = WordsField(help_text="What to search for.")
    min_confidence = None  # type: ignore[assignment]


@functools.cache
def names_of(serializer: Any) -> tuple[str, ...]:
    """Return the names of its fields. Cached, as making a serializer copies all its fields."""
    return tuple(serializer().fields)


class ByPhoto(BesidePicture):
    """The options of a search by a photo."""

    objects = serializers.BooleanField(
        default=False, help_text="Whether to search by the best four objects in the photo, too; not with `crop`."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["objects"] and attrs.get("crop"):
            message = _("Leave this out, or 'crop': objects are looked for in the whole photo.")
            raise serializers.ValidationError({"objects": [message]}, code="invalid")
        return super().validate(attrs)


class PhotoUpload(ByPhoto):
    """A photo as a file, by multipart/form-data."""

    image = PhotoField(help_text="The photo.", style={"input_type": "file"})
    crop = CropTextField(
        required=False, help_text="The part to search by, x0,y0,x1,y1 in fractions of the upright photo."
    )


class PhotoData(ByPhoto):
    """A photo in JSON."""

    image = DataURLField(help_text="The photo as a data URL, data:image/jpeg;base64,...")
    crop = CropListField(
        required=False, help_text="The part to search by: x0, y0, x1, y1 in fractions of the upright photo."
    )


class ObjectsUpload(SearchOptions):
    """A photo as a file, whose objects to find."""

    limit = min_similarity = min_confidence = ranking = None  # type: ignore[assignment]
    image = PhotoField(help_text="The photo.", style={"input_type": "file"})


class ObjectsData(ObjectsUpload):
    """A photo in JSON, whose objects to find."""

    image = DataURLField(help_text="The photo as a data URL, data:image/jpeg;base64,...")  # type: ignore[assignment]


class EventSerializer(serializers.Serializer):
    """What a shopper did with one hit."""

    kind = serializers.CharField(max_length=16, help_text="impression, click, favourite, cart or skip.")
    product = serializers.CharField(max_length=255, trim_whitespace=False, help_text="The `id` of the hit.")


class ReportSerializer(serializers.Serializer):
    token = serializers.CharField(trim_whitespace=False, help_text="The `token` of the page that showed the products.")
    events = EventSerializer(many=True, allow_empty=False)


class CountedSerializer(serializers.Serializer):
    """The response to a report."""

    counted = serializers.IntegerField(help_text="How many of the events count; repeated ones don't.")


def objects_serializer(request: Request) -> type[SearchOptions]:
    """Return the serializer for a file or for JSON."""
    return ObjectsUpload if request._request.content_type == "multipart/form-data" else ObjectsData


def photo_serializer(request: Request) -> type[SearchOptions]:
    """Return the serializer for a file or for JSON."""
    return PhotoUpload if request._request.content_type == "multipart/form-data" else PhotoData
