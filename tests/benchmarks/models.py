"""A catalogue of real pictures, a large one of made-up vectors, and products with their vector here or elsewhere."""

from django.db import models

from django_visual_search.fields import EmbeddingField, EmbeddingIndex

DIMENSIONS = 256


class Product(models.Model):
    """As in the README."""

    name = models.CharField(max_length=100, default="A product whose name is about as long as names are")
    price = models.IntegerField(default=0)
    stock = models.IntegerField(default=0)
    image = models.ImageField(upload_to="products")

    class Meta:
        abstract = True


class Photographed(Product):
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="photographed_hnsw")]


class Many(Product):
    cluster = models.IntegerField(db_index=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="many_hnsw")]


class Full(Product):
    """The vector on the product, its pages filled (PostgreSQL's default)."""

    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="full_hnsw")]


class Full85(Product):
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="full85_hnsw")]


class Full70(Product):
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="full70_hnsw")]


class Bare(Product):
    """A product whose vector is on a companion."""


class BareEmbedding(models.Model):
    product = models.OneToOneField(Bare, models.CASCADE, primary_key=True, related_name="embedding")
    embedding = EmbeddingField(source="product__image", product="product", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="bareembedding_hnsw")]
