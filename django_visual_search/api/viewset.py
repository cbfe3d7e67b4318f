"""The same API for shops without one: every product model with an embedding field, limited by ``VISIBLE``."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet
from django.http import Http404
from rest_framework.generics import get_object_or_404
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import AllowAny
from rest_framework.viewsets import GenericViewSet

from ..fields.registry import embedding_fields
from ..search.candidates import unlimited
from ..storefront.visibility import visible
from .answers import PlainProductSerializer
from .mixin import VisualSearchMixin
from .schema import default_views_described


class HitPagination(PageNumberPagination):
    page_size = 12
    page_size_query_param = "limit"
    max_page_size = 100


@default_views_described
class ProductViewSet(VisualSearchMixin, GenericViewSet):
    """Products of the model in the URL. Open to everybody, as ``VISUAL_SEARCH["VISIBLE"]`` limits the products."""

    permission_classes = (AllowAny,)
    filter_backends = ()
    pagination_class = HitPagination
    serializer_class = PlainProductSerializer

    def get_queryset(self) -> QuerySet[Any]:
        return visible(product_model(self.kwargs["app_label"], self.kwargs["model_name"]), self.request)

    def get_object(self) -> Model:
        return get_object_or_404(unlimited(self.get_queryset()), pk=self.kwargs["product"])


def product_model(app_label: str, model_name: str) -> type[Model]:
    """Return the model. Raise Http404 for a model that no embedding field finds."""
    try:
        model = apps.get_model(app_label, model_name)
    except LookupError:
        raise Http404 from None
    if not any(field.product_model is model for field in embedding_fields()):
        raise Http404
    return model


similar_view = ProductViewSet.as_view({"get": "similar"})
objects_view = ProductViewSet.as_view(
    {"post": "objects"}, parser_classes=VisualSearchMixin.objects.kwargs["parser_classes"]
)
search_by_image_view = ProductViewSet.as_view(
    {"post": "search_by_image", "get": "search_by_image_page"},
    parser_classes=VisualSearchMixin.search_by_image.kwargs["parser_classes"],
)
search_by_text_view = ProductViewSet.as_view({"get": "search_by_text"})
