"""The companion of Oscar's pictures."""

from __future__ import annotations

from django.db import models

from ...fields import EmbeddingField, EmbeddingIndex


class AbstractProductImageEmbedding(models.Model):
    """The vector of one of Oscar's product images; a shop's own app has a model of it, with its migration.

    Hits are parents and standalone products. A subclass may declare ``embedding`` itself, for other ``product`` paths,
    dimensions or an extractor.
    """

    image = models.OneToOneField("catalogue.ProductImage", models.CASCADE, primary_key=True, related_name="embedding")
    embedding = EmbeddingField(
        source="image__original", product=("image__product__parent", "image__product"), dimensions=256
    )

    class Meta:
        abstract = True
        # Oscar's primary image stands for its product.
        ordering = ["image__display_order", "pk"]
        indexes = [EmbeddingIndex(fields=["embedding"], name="%(class)s_hnsw")]
