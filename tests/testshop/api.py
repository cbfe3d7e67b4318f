"""The test shop's own API, as any shop has one: with filters, a search box, an order and pages."""

from __future__ import annotations

import django_filters
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import filters, pagination, routers, serializers, viewsets

from django_visual_search.api import VisualSearchMixin
from django_visual_search.storefront.visibility import visible

from .models import Category, Poster, Product


class CategorySerializer(serializers.ModelSerializer):
    class Meta:
        model = Category
        fields = ["id", "name"]


class ProductSerializer(serializers.ModelSerializer):
    category = CategorySerializer(allow_null=True)

    class Meta:
        model = Product
        fields = ["id", "name", "category", "price", "image"]


class PosterSerializer(serializers.ModelSerializer):
    class Meta:
        model = Poster
        fields = ["id", "image"]


class ProductFilter(django_filters.FilterSet):
    price = django_filters.RangeFilter()

    class Meta:
        model = Product
        fields = ["category", "tags"]


class Pages(pagination.PageNumberPagination):
    page_size = 5
    page_size_query_param = "page_size"
    max_page_size = 50


class ProductViewSet(VisualSearchMixin, viewsets.ReadOnlyModelViewSet):
    queryset = Product.objects.all()
    serializer_class = ProductSerializer
    pagination_class = Pages
    filter_backends = [DjangoFilterBackend, filters.SearchFilter, filters.OrderingFilter]
    filterset_class = ProductFilter
    search_fields = ["name", "tags__name"]
    ordering_fields = ["price"]
    ordering = ["-price"]
    visual_search_facets = ["category", "tags__name", "is_published"]

    def get_queryset(self):
        return visible(Product, self.request).select_related("category")


class PosterViewSet(VisualSearchMixin, viewsets.ReadOnlyModelViewSet):
    """Without filters, with the project's default pages."""

    queryset = Poster.objects.order_by("pk")
    serializer_class = PosterSerializer


router = routers.SimpleRouter()
router.register("products", ProductViewSet, basename="product")
router.register("posters", PosterViewSet, basename="poster")
