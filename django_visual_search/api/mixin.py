"""``VisualSearchMixin`` for a GenericViewSet of products: ``similar``, and searches by photo, text and object.

Its routes are ``similar``, ``search-by-image``, ``objects`` and ``search-by-text``.

Hits are products that the viewset lists: its queryset through its filter backends, with its permissions, throttles,
page sizes and serializer. Searching by photo changes nothing, so it needs the permissions of a GET.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request, clone_request
from rest_framework.response import Response
from rest_framework.views import APIView

from .. import search
from ..fields import EmbeddingField
from ..fields.registry import fields_of_product, search_field
from ..search.words import understands_text
from ..storefront.gate import photo_slot, refuse_when_full
from ..storefront.handles import read_handle
from ..storefront.refusals import throttled
from ..storefront.uploads import drain, keep_in_memory
from .answers import (
    CURSOR,
    HANDLE,
    first_page_response,
    limits_context,
    next_page_response,
    object_as_data,
    objects_response,
    own_parameters,
    search_arguments,
    validated,
    with_url_options,
)
from .bodies import BoundedJSONParser, Refused, as_api_exception, check_charset, check_photo_length, refusals
from .filters import check_parameters, filter_by_text, filters_read, without_query_string
from .inputs import (
    BesidePicture,
    ByHandle,
    ObjectsUpload,
    PhotoUpload,
    SearchOptions,
    TextSearch,
    names_of,
    objects_serializer,
    photo_serializer,
)
from .schema import (
    objects_described,
    photo_page_described,
    photo_search_described,
    similar_described,
    text_search_described,
)
from .throttles import PhotoThrottle, SimilarThrottle, TextThrottle

if TYPE_CHECKING:
    from rest_framework.viewsets import GenericViewSet as Base
else:
    Base = object

THROTTLES = {
    "similar": SimilarThrottle,
    "search_by_image": PhotoThrottle,
    "search_by_image_page": SimilarThrottle,
    "search_by_text": TextThrottle,
    "objects": PhotoThrottle,
}
"""By the mixin's action."""

PHOTO_ACTIONS = {"search_by_image": PhotoUpload, "objects": ObjectsUpload}
"""The actions to which a photo is POSTed, with the serializer of a form."""


class VisualSearchMixin(Base):
    # No docstring: drf-spectacular would describe the shop's own actions with it.

    visual_search_field: str | None = None
    """Label of the embedding field, where the products have several; by default one on their own table."""
    visual_search_facets: Sequence[str] = ()
    """Fields whose values are counted among the hits: ``"category"``, ``"brand__country"``, ``"tags__name"``."""
    visual_search_parameters: Sequence[str] | None = ()
    """Query parameters that filters of the shop's own read without declaring them; None accepts any."""
    _ignores_query_string = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if APIView in order and order.index(APIView) < order.index(VisualSearchMixin):
            raise TypeError(f"{cls.__name__}: VisualSearchMixin must come before the viewset, or its limits fail.")

    @similar_described
    @action(detail=True, methods=["get"], url_path="similar", url_name="similar")
    def similar(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return products that look like this one, best first."""
        queryset = self.get_queryset()
        names = set(names_of(BesidePicture))
        if filters_read(self, queryset, "text"):
            names.remove("text")
        check_parameters(request, self, queryset, (CURSOR, *names))
        product = self.get_similar_object()
        field, within = self.get_visual_search_field(), self.filter_queryset(queryset)
        if CURSOR in request.query_params:
            return next_page_response(self, field, within, ["product", "text"], str(product.pk))
        options = validated(self, BesidePicture, own_parameters(request, names))
        started = time.monotonic()
        within, beside = self._read_text(options.get("text"), field, within)
        results = search.similar_to(product, within=within, field=field.label, **beside, **search_arguments(options))
        return first_page_response(self, results, field, within, started, options["limit"])

    @photo_search_described
    @action(
        detail=False,
        methods=["post"],
        url_path="search-by-image",
        url_name="search-by-image",
        parser_classes=[MultiPartParser, BoundedJSONParser],
    )
    def search_by_image(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return products that look like a photo, best first."""
        queryset = self.get_queryset()
        check_parameters(request, self, queryset, names_of(SearchOptions))
        options = validated(self, photo_serializer(request), with_url_options(request))
        field, within = self.get_visual_search_field(), self.filter_queryset(queryset)
        photo, crop = options["image"], options.get("crop")
        with refusals(), photo_slot(request=request):
            started = time.monotonic()
            within, beside = self._read_text(options.get("text"), field, within)
            how = {**beside, **search_arguments(options)}
            if options["objects"]:
                found = search.search_objects(photo, field.label, within=within, **how)
                return objects_response(self, found, field, within, started, options["limit"])
            results = search.search_by_image(photo, field.label, within=within, crop=crop, **how)
            if options.get("text"):
                results.ranking = replace(results.ranking, query_kind="text")
            # The response takes as long as the search, so it is made within the slot.
            return first_page_response(self, results, field, within, started, options["limit"])

    @photo_page_described
    @search_by_image.mapping.get
    def search_by_image_page(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a further page of a search by photo, or search by that photo again, with other filters or words."""
        queryset = self.get_queryset()
        if HANDLE in request.query_params and CURSOR not in request.query_params:
            return self._search_by_handle(request, queryset)
        check_parameters(request, self, queryset, (CURSOR, "limit"))
        if CURSOR not in request.query_params:
            message = _("Send the photo by POST. GET continues a search, by its 'handle' or at the URL in its 'next'.")
            raise Refused(message, "cursor_missing")
        within = self.filter_queryset(queryset)
        return next_page_response(self, self.get_visual_search_field(), within, ["photo", "text"])

    def _search_by_handle(self, request: Request, queryset: QuerySet[Any]) -> Response:
        names = set(names_of(ByHandle))
        if filters_read(self, queryset, "text"):
            names.remove("text")
        check_parameters(request, self, queryset, names)
        options = validated(self, ByHandle, own_parameters(request, names))
        field, within = self.get_visual_search_field(), self.filter_queryset(queryset)
        handle, started = options["handle"], time.monotonic()
        with refusals():
            photo = read_handle(handle, field, request)
        within, beside = self._read_text(options.get("text"), field, within)
        how = {**beside, **search_arguments(options)}
        results = search.search_by_queries(photo.queries, field.label, within=within, **how)
        kind = "text" if options.get("text") else results.ranking.query_kind
        chosen = sorted(f"{name}={value}" for name, value in request.query_params.items() if name != HANDLE)
        results.ranking = replace(results.ranking, query_kind=kind, search=photo.search_id(*chosen))
        return first_page_response(self, results, field, within, started, options["limit"], handle)

    @objects_described
    @action(
        detail=False,
        methods=["post"],
        url_path="objects",
        url_name="objects",
        parser_classes=[MultiPartParser, BoundedJSONParser],
    )
    def objects(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the boxes of the objects in a photo, best first."""
        check_parameters(request, self, self.get_queryset(), ())
        options = validated(self, objects_serializer(request), request.data)
        with refusals(), photo_slot(request=request):
            found = search.find_objects(options["image"], self.get_visual_search_field().label)
        return Response({"objects": [object_as_data(one) for one in found]})

    @text_search_described
    @action(detail=False, methods=["get"], url_path="search-by-text", url_name="search-by-text")
    def search_by_text(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return products that look like what a text says, or whose own text says it, best first."""
        queryset = self.get_queryset()
        names = names_of(TextSearch)
        check_parameters(request, self, queryset, (CURSOR, *names))
        field, within = self.get_visual_search_field(), self.filter_queryset(queryset)
        if CURSOR in request.query_params:
            return next_page_response(self, field, within, ["words"])
        options = validated(self, TextSearch, own_parameters(request, names))
        started = time.monotonic()
        how = search_arguments(options)
        del how["min_confidence"]
        results = search.search_by_text(options["text"], field.label, within=within, **how)
        return first_page_response(self, results, field, within, started, options["limit"])

    def _read_text(
        self, text: str | None, field: EmbeddingField, within: QuerySet[Any]
    ) -> tuple[QuerySet[Any], dict[str, Any]]:
        """Return what to search, and the search's text, where the search understands texts; else the search box does.

        Clients of shops without text search used ``text`` to filter before there was any.
        """
        if not text:
            return within, {}
        if getattr(self, "search_fields", None) and not understands_text(field):
            return filter_by_text(within, text, self.request, self), {}
        return within, {"text": text}

    def get_similar_object(self) -> Any:
        """Return the product whose similar items to find, if the visitor may see it. Raise Http404.

        Filters in the URL narrow the hits, not this product.
        """
        self._ignores_query_string = True
        try:
            return self.get_object()
        finally:
            self._ignores_query_string = False

    def get_visual_search_field(self) -> EmbeddingField:
        """Return the embedding field to search by."""
        model = self.get_queryset().model
        if not self.visual_search_field and not fields_of_product(model):
            raise ImproperlyConfigured(f"{model._meta.label} has no embedding field to search by.")
        return search_field(model, self.visual_search_field)

    # Hooks of every viewset that the mixin's actions change

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if self.action in PHOTO_ACTIONS:
            with refusals():
                refuse_when_full()
            check_charset(request._request)
            check_photo_length(request._request)  # before authentication, which may read the body
            keep_in_memory(request._request)
        if self.action in THROTTLES and any("\0" in str(value) for value in kwargs.values()):
            raise Http404  # PostgreSQL takes no NUL in text
        super().initial(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(clone_request(request, "GET") if self.action in PHOTO_ACTIONS else request)

    def get_throttles(self) -> list[Any]:
        ours = THROTTLES.get(self.action)
        return [*super().get_throttles(), *([ours()] if ours else [])]

    def throttled(self, request: Request, wait: float | None) -> None:
        ours = THROTTLES.get(self.action)
        if ours is None:
            super().throttled(request, wait)  # type: ignore[misc]
        else:  # in the words of the photo search page
            refusal = throttled(ours.kind, wait)
            raise Refused(refusal.sentence, refusal.code, refusal.status, refusal.retry_after)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self._ignores_query_string:
            return super().filter_queryset(queryset)
        request = self.request  # type: ignore[has-type]
        self.request = without_query_string(request)
        try:
            return super().filter_queryset(queryset)
        finally:
            self.request = request

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the products' serializer; without products, where a photo is POSTed, the photo's.

        OPTIONS and the forms of DRF's browsable API need the latter.
        """
        form = PHOTO_ACTIONS.get(getattr(self, "action_map", {}).get("post", ""))
        if args or "instance" in kwargs or form is None:
            return super().get_serializer(*args, **kwargs)
        return form(*args, context={**self.get_serializer_context(), **limits_context(self)}, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(as_api_exception(exc) if self.action in THROTTLES else exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if self.action in PHOTO_ACTIONS and response.status_code >= 400:
            drain(request._request)
            if response.get("Retry-After"):
                # Busy is not a fault: Django would log each 503 as an error, and send mail about it.
                response._has_been_logged = True
        return super().finalize_response(request, response, *args, **kwargs)
