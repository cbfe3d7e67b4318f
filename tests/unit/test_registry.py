"""The registry finds the fields of a project in its models, and by their labels."""

import pytest
from django.test.utils import isolate_apps

from django_visual_search.fields import registry
from django_visual_search.fields.registry import embedding_fields, feeds_from, fields_of_product, get_field

from ..testshop.models import (
    Article,
    ArticleImage,
    ArticleImageEmbedding,
    Category,
    FeaturedProduct,
    Item,
    Poster,
    Product,
    Shoe,
    Spare,
    StoryImageEmbedding,
)

LABELS = [
    "testshop.Product.embedding",
    "testshop.Shoe.embedding",
    "testshop.Poster.embedding",
    "testshop.Spare.embedding",
    "testshop.ArticleImageEmbedding.embedding",
    "testshop.StoryImageEmbedding.embedding",
]


def test_every_field_once_in_the_models_order():
    # The abstract WithPicture and the proxy FeaturedProduct have no columns of their own.
    assert [field.label for field in embedding_fields()] == LABELS


def test_the_caller_may_change_the_list():
    embedding_fields().clear()
    assert len(embedding_fields()) == len(LABELS)


def test_the_field_belongs_to_the_model_that_has_the_column():
    models = [Product, Shoe, Poster, Spare, ArticleImageEmbedding, StoryImageEmbedding]
    assert [field.model for field in embedding_fields()] == models


@isolate_apps("tests.testshop")
def test_a_clone_for_migrations_is_not_listed():
    from django.db import models

    class Historic(models.Model):
        embedding = Product._meta.get_field("embedding").clone()

        class Meta:
            app_label = "testshop"

    assert Historic._meta.get_field("embedding").source is None
    assert [field.label for field in registry._find_fields()] == LABELS


class TestGetField:
    @pytest.mark.parametrize("label", LABELS)
    def test_by_its_label(self, label):
        assert get_field(label).label == label
        assert get_field(label.upper()).label == label
        assert get_field(label) is get_field(label.lower())

    @pytest.mark.parametrize(
        ("model", "label"),
        [
            (Product, "testshop.Product.embedding"),
            (FeaturedProduct, "testshop.Product.embedding"),
            (Shoe, "testshop.Shoe.embedding"),
            (ArticleImageEmbedding, "testshop.ArticleImageEmbedding.embedding"),
            (Article, "testshop.ArticleImageEmbedding.embedding"),
        ],
    )
    def test_by_the_model_that_has_it_or_that_it_searches(self, model, label):
        assert get_field(model._meta.label).label == label
        assert get_field(model._meta.label_lower).label == label

    @pytest.mark.parametrize(
        "label",
        [
            "testshop.Category",
            "testshop.ArticleImage",
            "testshop.Item",
            "testshop.Product.image",
            "testshop.FeaturedProduct.embedding",
            "nowhere.Product",
            "testshop",
            "",
            ".",
            "a.b.c.d",
        ],
    )
    def test_unknown(self, label):
        with pytest.raises(LookupError) as caught:
            get_field(label)
        expected = f"There is no embedding field {label!r}. This project has: {', '.join(LABELS)}."
        assert caught.value.args == (expected,)

    def test_several(self, monkeypatch):
        again = Product._meta.get_field("embedding")
        monkeypatch.setattr(registry, "_loaded_fields", lambda: (again, again))
        with pytest.raises(LookupError, match="has several embedding fields; name one of testshop"):
            get_field("testshop.Product")

    def test_none_at_all(self, monkeypatch):
        monkeypatch.setattr(registry, "_loaded_fields", tuple)
        with pytest.raises(LookupError, match="This project has: none"):
            get_field("testshop.Product")


def labels(fields):
    return [field.label for field in fields]


class TestFieldsOfProduct:
    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            (Product, ["testshop.Product.embedding"]),
            (FeaturedProduct, ["testshop.Product.embedding"]),
            (Shoe, ["testshop.Shoe.embedding"]),
            (Article, ["testshop.ArticleImageEmbedding.embedding"]),
            (ArticleImage, []),
            (Item, []),
            (Category, []),
        ],
    )
    def test_by_what_a_search_returns(self, model, expected):
        assert labels(fields_of_product(model)) == expected


class TestFeeds:
    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            (Product, ["testshop.Product.embedding"]),
            (FeaturedProduct, ["testshop.Product.embedding"]),
            # Saving the parent alone, and saving the child, both write the picture's table.
            (Item, ["testshop.Shoe.embedding"]),
            (Shoe, ["testshop.Shoe.embedding"]),
            (ArticleImage, ["testshop.ArticleImageEmbedding.embedding"]),
            (ArticleImageEmbedding, []),
            (Article, []),
        ],
    )
    def test_by_what_a_save_writes(self, model, expected):
        assert labels(feed.field for feed in feeds_from(model)) == expected
