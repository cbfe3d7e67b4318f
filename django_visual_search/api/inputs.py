"""Schemas of the serializers' fields for OpenAPI, where drf-spectacular is installed; without it they do nothing.

Which query parameters an action takes: its own and those of the viewset's filters. Others are refused.

What a search takes: fields that answer nonsense with what would make sense, and the serializers of both actions.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings

from ..images import ImageRefused, check_crop

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

# Asked of the settings: importing drf-spectacular takes long, and it may be installed for something else.
IS_INSTALLED = "drf_spectacular" in settings.INSTALLED_APPS


def shown_as(schema: dict[str, Any]) -> Decorator:
    """For a serializer field: its schema."""
    if not IS_INSTALLED:
        return as_it_is
    from drf_spectacular.utils import extend_schema_field

    return extend_schema_field(schema)


def as_it_is(something: Any) -> Any:
    return something


def check_parameters(request: Request, view: Any, queryset: QuerySet[Any], own: Iterable[str]) -> None:
    """Raises ValidationError for parameters that nobody reads: a filter with a typing error would narrow nothing.

    The viewset's ``visual_search_parameters`` names those that filters of the shop's own read without declaring them;
    None lets everything pass.
    """
    further = getattr(view, "visual_search_parameters", ())
    if further is None:
        return
    known = {*own, *further, *_of_filters(view, queryset), *_of_rest_framework(view)}
    if unknown := sorted(set(request.query_params) - known):
        message = _("There is no such parameter. There are: %(known)s.") % {"known": ", ".join(sorted(known))}
        raise ValidationError({name: [message] for name in unknown}, code="unknown")


def _of_rest_framework(view: Any) -> Iterator[str]:
    if api_settings.URL_FORMAT_OVERRIDE:
        yield api_settings.URL_FORMAT_OVERRIDE
    version = getattr(view.versioning_class, "version_param", None)
    if version:
        yield version


def _of_filters(view: Any, queryset: QuerySet[Any]) -> Iterator[str]:
    for backend in (make() for make in getattr(view, "filter_backends", ())):
        for attribute in ("search_param", "ordering_param"):
            if hasattr(backend, attribute):
                yield getattr(backend, attribute)
        if hasattr(backend, "get_filterset_class"):  # django-filter
            filterset = backend.get_filterset_class(view, queryset)
            for name, declared in filterset.base_filters.items() if filterset else ():
                widget = declared.extra.get("widget") or declared.field_class.widget
                suffixes = getattr(widget, "suffixes", None) or [""]
                yield from (f"{name}_{suffix}" if suffix else name for suffix in suffixes)
        elif hasattr(backend, "get_schema_operation_parameters"):
            yield from (declared["name"] for declared in backend.get_schema_operation_parameters(view))


LONGEST_NUMBER = 40  # characters; Python takes long to read longer ones


class LimitField(serializers.IntegerField):
    """Hits on a page; from 1 to what the serializer's context says."""

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
    """The box ``x0,y0,x1,y1``, or a list of the four, in fractions of the photo as a person sees it."""

    def to_internal_value(self, data: Any) -> tuple[float, float, float, float]:
        numbers = data.split(",") if isinstance(data, str) else data
        if not isinstance(numbers, list) or any(isinstance(n, bool) or len(str(n)) > LONGEST_NUMBER for n in numbers):
            numbers = None  # which is not four numbers
        try:
            return check_crop(numbers)
        except ImageRefused as refused:
            raise serializers.ValidationError(str(refused), code=refused.code) from None

    def to_representation(self, value: Any) -> Any:
        return list(value)


@shown_as(STRING)
class CropTextField(CropField):
    pass


@shown_as(ARRAY_OF_FOUR)
class CropListField(CropField):
    pass


@shown_as(BINARY)
class PhotoField(serializers.Field):
    """An uploaded file. Whether it is a picture is for ``images.load`` to say."""

    default_error_messages = {
        "required": _lazy("Send the photo as a file in the form field 'image', by multipart/form-data.")
    }

    def to_internal_value(self, data: Any) -> UploadedFile:
        if not isinstance(data, UploadedFile):
            raise serializers.ValidationError(_("Send the photo as a file, with a file name."), code="invalid")
        return data


@shown_as(DATA_URL)
class DataURLField(serializers.Field):
    """``data:image/jpeg;base64,...``, as a canvas gives it (RFC 2397). The media type is not believed."""

    default_error_messages = {"required": _lazy("Send the photo as a data URL, as 'image'.")}

    def to_internal_value(self, data: Any) -> bytes:
        if isinstance(data, str):
            head, comma, text = data.partition(",")
            if comma and head[:5].lower() == "data:" and head[-7:].lower() == ";base64":
                try:
                    return base64.b64decode(text, validate=True)
                except (binascii.Error, ValueError):
                    pass
        message = _("Send the photo as a data URL: data:image/jpeg;base64, and then the file in base64.")
        raise serializers.ValidationError(message, code="invalid")


class Asked(serializers.Serializer):
    """Refuses fields that it doesn't have."""

    limit = LimitField(required=False, min_value=1, help_text="Hits on a page.")
    min_similarity = SimilarityField(required=False, help_text="Leave out hits that are less similar than this.")
    min_confidence = SimilarityField(
        required=False,
        min_value=0,
        max_value=1,
        help_text="Leave out hits that are less likely than this to be what was asked for.",
    )
    ranking = serializers.BooleanField(
        default=True, help_text="Whether feedback, pins and the like may change the visual order."
    )

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            # A form's data would make a missing boolean False; and what is left empty in a form is not said.
            is_form = isinstance(data, MultiValueDict)
            data = {name: data[name] for name in data if not (is_form and data[name] == "")}
            unknown = data.keys() - self.fields.keys() - {"csrfmiddlewaretoken"}
            if unknown:
                message = _("There is no such field. There are: %(known)s.") % {"known": ", ".join(self.fields)}
                # JSON can name half a character, which no answer could repeat
                names = sorted(str(name).encode(errors="replace").decode() for name in unknown)
                raise serializers.ValidationError({name: [message] for name in names}, code="unknown")
        return super().to_internal_value(data)


class SimilarQuery(Asked):
    pass


@functools.cache
def names_of(serializer: Any) -> tuple[str, ...]:
    """Its fields' names. Making a serializer copies all its fields."""
    return tuple(serializer().fields)


class PhotoUpload(Asked):
    """A photo as a file, by multipart/form-data."""

    image = PhotoField(help_text="The photo.", style={"input_type": "file"})
    crop = CropTextField(
        required=False, help_text="The part to search by, x0,y0,x1,y1 in fractions of the photo as a person sees it."
    )


class PhotoData(Asked):
    """A photo in JSON."""

    image = DataURLField(help_text="The photo as a data URL, data:image/jpeg;base64,...")
    crop = CropListField(
        required=False, help_text="The part to search by: x0, y0, x1, y1 in fractions of the photo as a person sees it."
    )


class WithText(serializers.Serializer):
    text = serializers.CharField(
        required=False, max_length=200, help_text="Search among the products that this text finds."
    )


class PhotoAndTextUpload(PhotoUpload, WithText):
    """A photo as a file, by multipart/form-data."""


class PhotoAndTextData(PhotoData, WithText):
    """A photo in JSON."""


class EventSerializer(serializers.Serializer):
    """What a shopper did with one of the hits."""

    kind = serializers.CharField(max_length=16, help_text="impression, click, favourite, cart or skip.")
    product = serializers.CharField(max_length=255, trim_whitespace=False, help_text="The `id` of the hit.")


class ReportSerializer(serializers.Serializer):
    token = serializers.CharField(trim_whitespace=False, help_text="The `token` of the page that showed the products.")
    events = EventSerializer(many=True, allow_empty=False)


def photo_serializer(request: Request, view: Any) -> type[Asked]:
    """For a file or for JSON, with text where the viewset has ``search_fields``."""
    if request._request.content_type == "multipart/form-data":
        return upload_serializer(view)
    return PhotoAndTextData if getattr(view, "search_fields", None) else PhotoData


def upload_serializer(view: Any) -> type[Asked]:
    return PhotoAndTextUpload if getattr(view, "search_fields", None) else PhotoUpload
