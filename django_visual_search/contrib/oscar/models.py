"""The companion of Oscar's pictures, and the products that visitors may see: entries for ``VISIBLE``."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from oscar.core.loading import get_model

from ...fields import EmbeddingField, EmbeddingIndex


class AbstractProductImageEmbedding(models.Model):
    """The vector of one of Oscar's product images; a shop's own app has a model of it, with its migration.

    Hits are parents and standalone products. A subclass may declare ``embedding`` itself, for other ``product`` paths,
    dimensions or an extractor.
    """

    image = models.OneToOneField("catalogue.ProductImage", models.CASCADE, primary_key=True, related_name="embedding")
    embedding = EmbeddingField(
        source="image__original",
        only=~models.Q(product__structure="child", product__is_public=False),
        product=("image__product__parent", "image__product"),
        dimensions=256,
    )

    class Meta:
        abstract = True
        # Oscar's primary image stands for its product.
        ordering = ["image__display_order", "pk"]
        indexes = [EmbeddingIndex(fields=["embedding"], name="%(class)s_hnsw")]


def public(request: HttpRequest | None = None) -> QuerySet[Any]:
    """Return the public products, with what Oscar's cards read of them; children only of public parents.

    Of these, searches find parents and standalone products, because the companion's paths lead there. Children are
    asked about.
    """
    products: QuerySet[Any] = get_model("catalogue", "Product").objects.public().base_queryset()
    return products.filter(Q(parent=None) | Q(parent__is_public=True))


def buyable(request: HttpRequest | None = None) -> QuerySet[Any]:
    """Return the public products that can be bought, children and standalone: for companions that find children."""
    products = public(request)
    return products.exclude(structure=products.model.PARENT)
