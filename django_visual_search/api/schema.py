"""OpenAPI descriptions of the actions, for drf-spectacular; without it the decorators do nothing."""

from __future__ import annotations

import functools
from typing import Any

from rest_framework import serializers

from ..fields.registry import embedding_fields
from .answers import CURSOR, HitSerializer, ObjectSerializer, ObjectsSerializer, PageSerializer
from .inputs import (
    HAS_SPECTACULAR,
    BesidePicture,
    ByHandle,
    CountedSerializer,
    Decorator,
    ObjectsData,
    ObjectsUpload,
    PhotoData,
    PhotoUpload,
    ReportSerializer,
    TextSearch,
    undecorated,
)


class PageOfHits(PageSerializer):
    """Placeholder for a PageSerializer whose hits have the view's product serializer."""


@functools.cache
def page_schema(product: type[serializers.BaseSerializer], name: str) -> type[serializers.Serializer]:
    """Return a PageSerializer with ``results``: hits whose ``product`` has the given serializer."""
    hit = type(f"{name}HitSerializer", (HitSerializer,), {"product": product(), "__doc__": HitSerializer.__doc__})
    results = {"results": hit(many=True), "__doc__": PageSerializer.__doc__}
    return type(f"{name}HitsSerializer", (PageSerializer,), results)


class PhotoPageOfHits(PageSerializer):
    """Placeholder for the same with a page for each object in the photo."""


@functools.cache
def photo_page_of(product: Any, name: str) -> type[serializers.Serializer]:
    """Return ``page_schema`` with ``objects``: as many pages, each with its object."""
    page = page_schema(product, name)
    one = type(f"{name}ObjectHitsSerializer", (ObjectSerializer, page), {"__doc__": ObjectSerializer.__doc__})
    objects = one(many=True, required=False, help_text="With `objects`: a page of hits for each object in the photo.")
    return type(f"{name}PhotoHitsSerializer", (page,), {"objects": objects, "__doc__": PageSerializer.__doc__})


similar_described: Decorator = undecorated
objects_described: Decorator = undecorated
photo_search_described: Decorator = undecorated
photo_page_described: Decorator = undecorated
text_search_described: Decorator = undecorated
feedback_described: Decorator = undecorated
default_views_described: Decorator = undecorated

if HAS_SPECTACULAR:
    from drf_spectacular.extensions import OpenApiSerializerExtension
    from drf_spectacular.types import OpenApiTypes
    from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view

    class PageOfHitsExtension(OpenApiSerializerExtension):
        target_class: Any = PageOfHits
        name = "Hits"

        def get_name(self, auto_schema: Any, direction: Any) -> str:
            return f"{self._product(auto_schema, direction)[1]}{self.name}"

        def get_identity(self, auto_schema: Any, direction: Any) -> Any:
            return self._page(auto_schema, direction)

        def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
            page = self._page(auto_schema, direction)
            return auto_schema._map_serializer(page(), direction, bypass_extensions=True)

        def _page(self, auto_schema: Any, direction: Any) -> type[serializers.Serializer]:
            return page_schema(*self._product(auto_schema, direction))

        def _product(self, auto_schema: Any, direction: Any) -> tuple[Any, str]:
            serializer = auto_schema.view.get_serializer([], many=True).child
            return type(serializer), auto_schema._get_serializer_name(serializer, direction)

    class PhotoPageOfHitsExtension(PageOfHitsExtension):
        target_class = PhotoPageOfHits
        name = "PhotoHits"

        def _page(self, auto_schema: Any, direction: Any) -> type[serializers.Serializer]:
            return photo_page_of(*self._product(auto_schema, direction))

    ERRORS = {
        400: "A parameter or field is wrong; the response says which, and what would be right.",
        403: "The report comes from another site's page.",
        404: "There is no such product, or not for this visitor.",
        410: "The `handle` has expired: the photo has to be sent again.",
        411: "The request has no `Content-Length`.",
        413: "The photo or the request is too large.",
        415: "The file is not a picture of an accepted format, or the request is of another type.",
        429: "Too many requests from this visitor; the header `Retry-After` says when to try again.",
        503: "Too many photo searches are running (try again after `Retry-After`), or photo search can't run.",
    }

    def _responses(success: Any, *codes: int) -> dict[int, Any]:
        return success | {code: OpenApiResponse(OpenApiTypes.OBJECT, ERRORS[code]) for code in codes}

    CURSOR_PARAMETER = OpenApiParameter(CURSOR, str, description="Continues a search; part of the URL in `next`.")

    similar_described = extend_schema(
        parameters=[BesidePicture, CURSOR_PARAMETER],
        responses=_responses({200: PageOfHits}, 400, 404, 429),
        filters=True,
    )
    photo_search_described = extend_schema(
        request={"multipart/form-data": PhotoUpload, "application/json": PhotoData},
        responses=_responses({200: PhotoPageOfHits}, 400, 404, 411, 413, 415, 429, 503),
        filters=True,
    )
    objects_described = extend_schema(
        request={"multipart/form-data": ObjectsUpload, "application/json": ObjectsData},
        responses=_responses({200: ObjectsSerializer}, 400, 404, 411, 413, 415, 429, 503),
        filters=False,
    )
    photo_page_described = extend_schema(
        parameters=[ByHandle, CURSOR_PARAMETER],
        responses=_responses({200: PageOfHits}, 400, 404, 410, 429),
        filters=True,
    )
    text_search_described = extend_schema(
        parameters=[TextSearch, CURSOR_PARAMETER],
        responses=_responses({200: PageOfHits}, 400, 404, 429),
        filters=True,
    )
    feedback_described = extend_schema(
        request={"application/json": ReportSerializer, "text/plain": OpenApiTypes.STR},
        responses=_responses({202: CountedSerializer}, 400, 403, 411, 413, 415, 429),
    )

    PRODUCTS = {field.product_model._meta for field in embedding_fields()}
    MODEL_PARAMETERS = [
        OpenApiParameter(name, {"type": "string", "enum": sorted(values)}, OpenApiParameter.PATH)
        for name, values in (
            ("app_label", {opts.app_label for opts in PRODUCTS}),
            ("model_name", {opts.model_name for opts in PRODUCTS}),
        )
    ]

    def default_views_described(view: Any) -> Any:
        key = OpenApiParameter("product", str, OpenApiParameter.PATH, description="The product's primary key.")
        view = extend_schema_view(similar=extend_schema(parameters=[key]))(view)
        return extend_schema(parameters=MODEL_PARAMETERS)(view)
