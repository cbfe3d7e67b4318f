"""The shop's API. Visual search adds the mixin and one line of facets."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import filters, pagination, routers, serializers, viewsets

from django_visual_search.api import VisualSearchMixin

from .models import Brand, Category, Product
from .selectors import visible_products


class ProductSerializer(serializers.ModelSerializer):
    category = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    brand = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    url = serializers.URLField(source="get_absolute_url", read_only=True)

    class Meta:
        model = Product
        fields = ["id", "sku", "name", "category", "brand", "price", "stock", "url", "image"]


class ProductFilter(django_filters.FilterSet):
    category = django_filters.ModelChoiceFilter(queryset=Category.objects, to_field_name="slug")
    brand = django_filters.ModelChoiceFilter(queryset=Brand.objects, to_field_name="slug")
    price = django_filters.RangeFilter()


class Pages(pagination.PageNumberPagination):
    page_size = 24
    page_size_query_param = "page_size"
    max_page_size = 100


class ProductViewSet(VisualSearchMixin, viewsets.ReadOnlyModelViewSet):
    serializer_class = ProductSerializer
    pagination_class = Pages
    filter_backends = [DjangoFilterBackend, filters.SearchFilter, filters.OrderingFilter]
    filterset_class = ProductFilter
    search_fields = ["name", "sku", "brand__name"]
    ordering_fields = ["price", "name", "created"]
    visual_search_facets = ["category", "brand"]
    queryset = Product.objects.all()

    def get_queryset(self) -> QuerySet[Product]:
        return visible_products(self.request).select_related("category", "brand")


router = routers.DefaultRouter()
router.register("products", ProductViewSet, basename="product")
