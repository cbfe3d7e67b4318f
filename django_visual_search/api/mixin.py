"""``VisualSearchMixin`` for a GenericViewSet of products: ``GET {pk}/similar/`` and ``POST search-by-image/``.

What may be found is what the viewset lists: its queryset through its filter backends, with its permissions, throttles,
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
from ..fields.registry import fields_of_product, get_field
from ..storefront.gate import photo_slot, refuse_when_full
from .answers import CURSOR, first_page, how, limits_of, next_page, own_parameters, read, without_parameters
from .bodies import BoundedJSONParser, Refused, as_api_exception, check_charset, check_photo_length, drain, refusals
from .facets import narrowed
from .inputs import SimilarQuery, check_parameters, names_of, photo_serializer, upload_serializer
from .schema import photo_page_described, photo_search_described, similar_described
from .throttles import PhotoThrottle, SimilarThrottle

if TYPE_CHECKING:
    from rest_framework.viewsets import GenericViewSet as Base
else:
    Base = object

THROTTLES = {
    "similar": SimilarThrottle,
    "search_by_image": PhotoThrottle,
    "search_by_image_page": SimilarThrottle,
}
"""By action of the mixin."""


class VisualSearchMixin(Base):
    # No docstring: drf-spectacular would describe the shop's own actions with it.

    visual_search_field: str | None = None
    """Label of the embedding field, where the products have several; by default one on their own table."""
    visual_search_facets: Sequence[str] = ()
    """Fields by whose values hits are counted: ``"category"``, ``"brand__country"``, ``"tags__name"``."""
    visual_search_parameters: Sequence[str] | None = ()
    """Query parameters that filters of the shop's own read without declaring them; None accepts any."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if APIView in order and order.index(APIView) < order.index(VisualSearchMixin):
            raise TypeError(f"{cls.__name__}: VisualSearchMixin comes before the viewset, or its limits do not hold.")

    @similar_described
    @action(detail=True, methods=["get"], url_path="similar", url_name="similar")
    def similar(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Products that look like this one, best first."""
        queryset = self.get_queryset()
        check_parameters(request, self, queryset, (CURSOR, *names_of(SimilarQuery)))
        product = self.get_similar_object()
        field, within = self.get_visual_search_field(), self.filter_queryset(queryset)
        if CURSOR in request.query_params:
            return next_page(self, field, within, ["product"], str(product.pk))
        asked = read(self, SimilarQuery, own_parameters(request, SimilarQuery))
        started = time.monotonic()
        results = search.similar_to(product, within=within, field=field.label, **how(asked))
        return first_page(self, results, field, within, started, asked["limit"])

    @photo_search_described
    @action(
        detail=False,
        methods=["post"],
        url_path="search-by-image",
        url_name="search-by-image",
        parser_classes=[MultiPartParser, BoundedJSONParser],
    )
    def search_by_image(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Products that look like a photo, best first."""
        queryset = self.get_queryset()
        check_parameters(request, self, queryset, ())
        asked = read(self, photo_serializer(request, self), request.data)
        field, within = self.get_visual_search_field(), self.filter_queryset(queryset)
        text = asked.get("text")
        if text:
            within = narrowed(within, text, request, self)
        with refusals(), photo_slot():
            started = time.monotonic()
            results = search.search_by_image(
                asked["image"], field.label, within=within, crop=asked.get("crop"), **how(asked)
            )
            if text:
                results.ranking = replace(results.ranking, query_kind="text")
            # The answer takes as long as the search, so it is made within the slot.
            return first_page(self, results, field, within, started, asked["limit"])

    @photo_page_described
    @search_by_image.mapping.get
    def search_by_image_page(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A further page of a search by photo: the address that `next` gave."""
        queryset = self.get_queryset()
        check_parameters(request, self, queryset, (CURSOR, "limit"))
        if CURSOR not in request.query_params:
            message = _("Send the photo by POST. GET goes on with a search, at the address that its 'next' gave.")
            raise Refused(message, "cursor_missing")
        within = self.filter_queryset(queryset)
        return next_page(self, self.get_visual_search_field(), within, ["photo", "text"])

    def get_similar_object(self) -> Any:
        """The product asked about, if the visitor may see it. Filters in the address narrow the hits, not this."""
        self._as_if_without_parameters = True
        try:
            return self.get_object()
        finally:
            self._as_if_without_parameters = False

    def get_visual_search_field(self) -> EmbeddingField:
        if self.visual_search_field:
            return get_field(self.visual_search_field)
        model = self.get_queryset().model
        if not (found := fields_of_product(model)):
            raise ImproperlyConfigured(f"{model._meta.label} has no embedding field to search by.")
        return found[0]

    # What a viewset does at every request, and these actions a little otherwise

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if self.action == "search_by_image":
            with refusals():
                refuse_when_full()
            check_charset(request._request)
            check_photo_length(request._request)  # authentication may read the body
        if self.action in THROTTLES and any("\0" in str(value) for value in kwargs.values()):
            raise Http404  # PostgreSQL has no such text
        super().initial(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(clone_request(request, "GET") if self.action == "search_by_image" else request)

    def get_throttles(self) -> list[Any]:
        ours = THROTTLES.get(self.action)
        return [*super().get_throttles(), *([ours()] if ours else [])]

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not getattr(self, "_as_if_without_parameters", False):
            return super().filter_queryset(queryset)
        with without_parameters(self.request):
            return super().filter_queryset(queryset)

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """The products' serializer; without any, where a photo is POSTed, that of the photo.

        So OPTIONS and the forms of DRF's browsable API ask for it.
        """
        if args or "instance" in kwargs or getattr(self, "action_map", {}).get("post") != "search_by_image":
            return super().get_serializer(*args, **kwargs)
        return upload_serializer(self)(*args, context={**self.get_serializer_context(), **limits_of(self)}, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(as_api_exception(exc) if self.action in THROTTLES else exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if self.action == "search_by_image" and response.status_code >= 400:
            drain(request._request)
            if response.get("Retry-After"):
                # A server that is busy is no fault: Django would log each 503 as an error, and send mail about it.
                response._has_been_logged = True
        return super().finalize_response(request, response, *args, **kwargs)
