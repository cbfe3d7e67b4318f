"""Every shape of declaration: on the product, a proxy, a multi-table child, other primary keys, and a companion."""

import uuid

from django.db import models

from django_visual_search.fields import EmbeddingField, EmbeddingIndex

DIMENSIONS = 48


class Category(models.Model):
    name = models.CharField(max_length=50)


class Tag(models.Model):
    name = models.CharField(max_length=50)


class Product(models.Model):
    name = models.CharField(max_length=100)
    category = models.ForeignKey(Category, models.CASCADE, null=True, blank=True)
    tags = models.ManyToManyField(Tag)
    price = models.IntegerField(default=0)
    is_published = models.BooleanField(default=True)
    image = models.ImageField(upload_to="products", blank=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="product_embedding_hnsw")]


class FeaturedProduct(Product):
    class Meta:
        proxy = True


class Item(models.Model):
    """The parent of a multi-table child; it has the picture."""

    name = models.CharField(max_length=100)
    image = models.ImageField(upload_to="items", blank=True)


class Shoe(Item):
    size = models.IntegerField(default=42)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="shoe_embedding_hnsw")]


class WithPicture(models.Model):
    """An abstract base that brings the field along."""

    image = models.ImageField(upload_to="abstract", null=True, blank=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS, metric="l2")

    class Meta:
        abstract = True


class Poster(WithPicture):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="poster_embedding_hnsw", metric="l2")]


class Spare(models.Model):
    sku = models.CharField(primary_key=True, max_length=40)
    image = models.ImageField(upload_to="spares", blank=True)
    embedding = EmbeddingField(source="image", dimensions=DIMENSIONS, metric="ip")

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="spare_embedding_hnsw", metric="ip")]


class Article(models.Model):
    """A third party's product ..."""

    title = models.CharField(max_length=100)
    category = models.ForeignKey(Category, models.CASCADE, null=True, blank=True)
    is_public = models.BooleanField(default=True)


class ArticleImage(models.Model):
    """... with its pictures, neither of which can be altered ..."""

    article = models.ForeignKey(Article, models.CASCADE, related_name="images")
    original = models.ImageField(upload_to="articles")
    display_order = models.IntegerField(default=0)


class ArticleImageEmbedding(models.Model):
    """... and the shop's companion for them."""

    image = models.OneToOneField(ArticleImage, models.CASCADE, primary_key=True, related_name="embedding")
    embedding = EmbeddingField(source="image__original", product="image__article", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="articleimage_embedding_hnsw")]


class Story(models.Model):
    """A product that is referred to by something else than its primary key."""

    code = models.CharField(max_length=20, unique=True)


class LongStory(Story):
    """A child of it: its querysets keep only some of the products, without a condition."""


class StoryImage(models.Model):
    story = models.ForeignKey(Story, models.CASCADE, to_field="code", null=True)
    original = models.ImageField(upload_to="stories")


class StoryImageEmbedding(models.Model):
    image = models.OneToOneField(StoryImage, models.CASCADE, primary_key=True)
    embedding = EmbeddingField(source="image__original", product="image__story", dimensions=DIMENSIONS)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="storyimage_embedding_hnsw")]


class PublishedManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(is_published=True)


class PublishedProduct(Product):
    """A proxy whose manager decides what may be found."""

    objects = PublishedManager()

    class Meta:
        proxy = True
