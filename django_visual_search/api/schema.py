"""Descriptions of the actions for OpenAPI, where drf-spectacular is installed; without it they do nothing."""

from __future__ import annotations

import functools
from typing import Any

from rest_framework import serializers

from ..fields.registry import embedding_fields
from .answers import CURSOR, CountedSerializer, HitSerializer, PageSerializer
from .inputs import (
    IS_INSTALLED,
    Decorator,
    PhotoAndTextData,
    PhotoAndTextUpload,
    PhotoData,
    PhotoUpload,
    ReportSerializer,
    SimilarQuery,
    as_it_is,
)


class PageOfHits(PageSerializer):
    """Stands in a description for PageSerializer with hits whose product is as the view's serializer shows it."""


@functools.cache
def page_of(product: type[serializers.BaseSerializer], name: str) -> type[serializers.Serializer]:
    """PageSerializer with ``results``, hits whose ``product`` is that serializer's."""
    hit = type(f"{name}HitSerializer", (HitSerializer,), {"product": product(), "__doc__": HitSerializer.__doc__})
    results = {"results": hit(many=True), "__doc__": PageSerializer.__doc__}
    return type(f"{name}HitsSerializer", (PageSerializer,), results)


similar_described: Decorator = as_it_is
photo_search_described: Decorator = as_it_is
photo_page_described: Decorator = as_it_is
feedback_described: Decorator = as_it_is
default_views_described: Decorator = as_it_is

if IS_INSTALLED:
    from drf_spectacular.extensions import OpenApiSerializerExtension
    from drf_spectacular.types import OpenApiTypes
    from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view

    class PageOfHitsExtension(OpenApiSerializerExtension):
        target_class = PageOfHits

        def get_name(self, auto_schema: Any, direction: Any) -> str:
            return f"{self._product(auto_schema, direction)[1]}Hits"

        def get_identity(self, auto_schema: Any, direction: Any) -> Any:
            return page_of(*self._product(auto_schema, direction))

        def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
            page = page_of(*self._product(auto_schema, direction))
            return auto_schema._map_serializer(page(), direction, bypass_extensions=True)

        def _product(self, auto_schema: Any, direction: Any) -> tuple[Any, str]:
            serializer = auto_schema.view.get_serializer([], many=True).child
            return type(serializer), auto_schema._get_serializer_name(serializer, direction)

    class TextExtension(OpenApiSerializerExtension):
        """Leaves ``text`` away where the view has no ``search_fields``."""

        target_class = PhotoAndTextUpload
        without: Any = PhotoUpload

        def get_identity(self, auto_schema: Any, direction: Any) -> Any:
            return self.target_class if getattr(auto_schema.view, "search_fields", None) else self.without

        def get_name(self, auto_schema: Any, direction: Any) -> str:
            return str(self.get_identity(auto_schema, direction).__name__)

        def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
            serializer = self.get_identity(auto_schema, direction)
            return auto_schema._map_serializer(serializer(), direction, bypass_extensions=True)

    class TextInDataExtension(TextExtension):
        target_class = PhotoAndTextData
        without = PhotoData

    ERRORS = {
        400: "A parameter or field makes no sense; the answer says which, and what would.",
        403: "The report comes from a page of another site.",
        404: "There is no such product, or not for this visitor.",
        411: "The request has no `Content-Length`.",
        413: "The photo or the request is too large.",
        415: "The file is not a picture of an accepted format, or the request is of another type.",
        429: "Too many requests from this visitor; the header `Retry-After` says when to come back.",
        503: "Too many photos are searched by at the moment; `Retry-After` says when to come back. Or it can't run.",
    }

    def _answers(success: Any, *codes: int) -> dict[int, Any]:
        return success | {code: OpenApiResponse(OpenApiTypes.OBJECT, ERRORS[code]) for code in codes}

    CURSOR_PARAMETER = OpenApiParameter(CURSOR, str, description="Goes on with a search: take the address in `next`.")
    LIMIT_PARAMETER = OpenApiParameter("limit", {"type": "integer", "minimum": 1}, description="Hits on a page.")

    similar_described = extend_schema(
        parameters=[SimilarQuery, CURSOR_PARAMETER],
        responses=_answers({200: PageOfHits}, 400, 404, 429),
        filters=True,
    )
    photo_search_described = extend_schema(
        request={"multipart/form-data": PhotoAndTextUpload, "application/json": PhotoAndTextData},
        responses=_answers({200: PageOfHits}, 400, 404, 411, 413, 415, 429, 503),
        filters=True,
    )
    photo_page_described = extend_schema(
        parameters=[OpenApiParameter(CURSOR, str, required=True, description="From `next`."), LIMIT_PARAMETER],
        responses=_answers({200: PageOfHits}, 400, 404, 429),
        filters=True,
    )
    feedback_described = extend_schema(
        request={"application/json": ReportSerializer, "text/plain": OpenApiTypes.STR},
        responses=_answers({202: CountedSerializer}, 400, 403, 411, 413, 415, 429),
    )

    PRODUCTS = {field.product_model._meta for field in embedding_fields()}
    WHICH = [
        OpenApiParameter(name, {"type": "string", "enum": sorted(values)}, OpenApiParameter.PATH)
        for name, values in (
            ("app_label", {opts.app_label for opts in PRODUCTS}),
            ("model_name", {opts.model_name for opts in PRODUCTS}),
        )
    ]

    def default_views_described(view: Any) -> Any:
        key = OpenApiParameter("product", str, OpenApiParameter.PATH, description="The product's primary key.")
        view = extend_schema_view(similar=extend_schema(parameters=[key]))(view)
        return extend_schema(parameters=WHICH)(view)
