"""Schemas of the serializers' fields for OpenAPI, where drf-spectacular is installed; without it they do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings

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
