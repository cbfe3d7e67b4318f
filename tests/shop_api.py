"""Rows with vectors, and requests, for the tests of the API."""

from __future__ import annotations

import base64
import json

import numpy as np
from django.core.files.uploadedfile import SimpleUploadedFile

from django_visual_search.fields.registry import get_field
from django_visual_search.spaces.extractors import extractor_of

from .conftest import picture
from .testshop.models import Article, ArticleImage, ArticleImageEmbedding, Poster, Product

FIELD = "testshop.Product.embedding"


def unit_vectors(count, dimensions=48, seed=0):
    """Return different vectors around one direction, so that all are alike."""
    vectors = 1 + 0.5 * np.random.default_rng(seed).standard_normal((count, dimensions))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def key_of(label=FIELD):
    return extractor_of(get_field(label)).spec.key


def make_products(count, seed=0, **columns):
    """Create published products with vectors, without pictures on disk. ``columns``: name -> function of the number."""
    return Product.objects.bulk_create(
        Product(
            **{"name": f"product {i}", "price": i, **{name: make(i) for name, make in columns.items()}},
            image=f"products/{i}.jpg",
            embedding=vector,
            embedding_key=f"{key_of()}:products/{i}.jpg",
        )
        for i, vector in enumerate(unit_vectors(count, seed=seed))
    )


def make_posters(count):
    key = key_of("testshop.Poster.embedding")
    return Poster.objects.bulk_create(
        Poster(image=f"{i}.jpg", embedding=vector, embedding_key=f"{key}:{i}.jpg")
        for i, vector in enumerate(unit_vectors(count))
    )


def make_articles(count, pictures=2):
    """Create articles with several pictures each, whose companions have vectors."""
    key = key_of("testshop.ArticleImageEmbedding.embedding")
    articles = Article.objects.bulk_create(Article(title=f"article {i}") for i in range(count))
    owned = ArticleImage.objects.bulk_create(
        ArticleImage(article=article, original=f"articles/{article.pk}-{n}.jpg", display_order=n)
        for article in articles
        for n in range(pictures)
    )
    ArticleImageEmbedding.objects.bulk_create(
        ArticleImageEmbedding(image=image, embedding=vector, embedding_key=f"{key}:{image.original.name}")
        for image, vector in zip(owned, unit_vectors(len(owned)), strict=True)
    )
    return articles


def photo(seed=1, name="photo.jpg"):
    return SimpleUploadedFile(name, picture(seed), "image/jpeg")


def data_url(seed=1):
    return "data:image/jpeg;base64," + base64.b64encode(picture(seed)).decode()


def search_by_photo(client, path, seed=1, **fields):
    return client.post(path, {"image": photo(seed), **fields})


def post_json(client, path, data, **extra):
    body = data if isinstance(data, str | bytes) else json.dumps(data)
    return client.post(path, body, content_type=extra.pop("content_type", "application/json"), **extra)


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [hit["id"] for hit in answer.json()["results"]]


def all_pages(client, answer):
    """Return every hit of a search, page after page."""
    found = list(answer.json()["results"])
    while answer.json()["next"]:
        answer = client.get(answer.json()["next"])
        assert answer.status_code == 200, answer.content
        found += answer.json()["results"]
    return found
