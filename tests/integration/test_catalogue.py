import tracemalloc

import pytest
from django.db import connection
from django.db.models import Count

from django_visual_search.evaluation.catalogue import read_catalogue, sample_catalogue
from django_visual_search.fields.registry import get_field

from ..testshop.models import Article, ArticleImage, Category, Product, Shoe, Story, StoryImage, Tag

pytestmark = pytest.mark.django_db
ARTICLES = "testshop.ArticleImageEmbedding.embedding"


def test_pictures_on_the_product_itself():
    hats = Category.objects.create(name="hats")
    first = Product.objects.create(name="a", image="a.jpg", category=hats)
    Product.objects.create(name="no picture", category=hats)
    second = Product.objects.create(name="b", image="b.jpg")
    found = read_catalogue(get_field("testshop.Product"), ["category", "category__name", "name"])
    assert found.keys == [first.pk, second.pk]
    assert found.images == ["a.jpg", "b.jpg"]
    assert found.products == [str(first.pk), str(second.pk)]
    assert found.labels == {"category": [str(hats.pk), ""], "category__name": ["hats", ""], "name": ["a", "b"]}


def test_several_pictures_of_a_third_partys_product():
    hats = Category.objects.create(name="hats")
    article, bare = Article.objects.create(title="a", category=hats), Article.objects.create(title="b")
    owners = [article, article, bare]
    pictures = [ArticleImage.objects.create(article=a, original=f"{i}.jpg") for i, a in enumerate(owners)]
    found = read_catalogue(get_field(ARTICLES), ["category"])
    assert found.keys == [picture.pk for picture in pictures]
    assert found.products == [str(article.pk), str(article.pk), str(bare.pk)]
    assert found.labels["category"] == [str(hats.pk), str(hats.pk), ""]


def test_a_product_that_is_found_by_another_column_or_is_missing():
    story = Story.objects.create(code="x1")
    StoryImage.objects.create(story=story, original="1.jpg")
    StoryImage.objects.create(original="2.jpg")
    found = read_catalogue(get_field("testshop.StoryImageEmbedding"), ["code"])
    assert found.products == [str(story.pk), ""]
    assert found.labels["code"] == ["x1", ""]


def test_a_childs_picture_in_its_parents_table():
    shoe = Shoe.objects.create(name="s", image="s.jpg", size=40)
    found = read_catalogue(get_field("testshop.Shoe"), ["size", "name"])
    assert (found.keys, found.images, found.labels) == ([shoe.pk], ["s.jpg"], {"size": ["40"], "name": ["s"]})


def test_the_first_of_several_labels_counts():
    product = Product.objects.create(name="a", image="a.jpg")
    tags = [Tag.objects.create(name=name) for name in ("old", "new")]
    product.tags.set(tags)
    assert read_catalogue(get_field("testshop.Product"), ["tags__name"]).labels["tags__name"] in (["old"], ["new"])
    assert len(read_catalogue(get_field("testshop.Product"), ["tags"])) == 1


@pytest.mark.parametrize("read", [read_catalogue, sample_catalogue])
def test_within_and_limit(read):
    made = [Product.objects.create(name=str(i), image=f"{i}.jpg", price=i) for i in range(9)]
    field, within = get_field("testshop.Product"), Product.objects.filter(price__gte=2)
    assert read(field, within=within, limit=7).keys == [product.pk for product in made[2:]]
    drawn = [read(field, ["name"], within=within, limit=3, seed=seed) for seed in (0, 0, 1, 2)]
    assert [len(one) for one in drawn] == [3] * 4
    assert drawn[0] == drawn[1]
    assert len({tuple(one.keys) for one in drawn}) > 1
    for one in drawn:
        assert one.keys == sorted(set(one.keys) & {product.pk for product in made[2:]})
        assert one.labels["name"] == [Product.objects.get(pk=key).name for key in one.keys]
    assert read_catalogue(field, within=within).keys == [product.pk for product in made[2:]]


def pictures_of(counts):
    """Articles with so many pictures each."""
    for count in counts:
        article = Article.objects.create(title="a")
        ArticleImage.objects.bulk_create(ArticleImage(article=article, original=f"{i}.jpg") for i in range(count))


@pytest.mark.parametrize("limit", range(1, 40, 3))
def test_whole_products_are_read(limit):
    pictures_of([10, 3, *[1] * 12, 7])
    for seed in range(3):
        found = read_catalogue(get_field(ARTICLES), limit=limit, seed=seed)
        assert 0 < len(found) <= limit
        counts = {str(pk): n for pk, n in Article.objects.annotate(n=Count("images")).values_list("pk", "n")}
        assert all(found.products.count(product) == counts[product] for product in found.products)


@pytest.mark.parametrize("limit", [1, 2, 5, 9, 20])
def test_a_sample_has_pictures_of_as_many_products_as_possible(limit):
    pictures_of([10, 3, *[1] * 12, 7])
    for seed in range(3):
        found = sample_catalogue(get_field(ARTICLES), limit=limit, seed=seed)
        assert limit - 1 <= len(found) <= limit
        each = {product: found.products.count(product) for product in found.products}
        if limit == 20:  # two of each product fit, and two more
            assert sorted(each.values()) == [1] * 12 + [2, 3, 3]
        elif limit > 1:
            several = Article.objects.annotate(n=Count("images")).filter(n__gt=1, pk__in=each)
            assert all(each[str(article.pk)] == 2 for article in several)
    with pytest.raises(ValueError, match="at least 1 picture"):
        sample_catalogue(get_field(ARTICLES), limit=0)


def test_pictures_without_a_product_are_read_one_by_one_and_never_sampled():
    story = Story.objects.create(code="x1")
    StoryImage.objects.bulk_create([StoryImage(story=story, original="1.jpg"), StoryImage(original="2.jpg")])
    StoryImage.objects.bulk_create(StoryImage(original=f"{i}.jpg") for i in range(3, 9))
    field = get_field("testshop.StoryImageEmbedding")
    assert len(read_catalogue(field, limit=4)) == 4
    assert sample_catalogue(field, limit=4).images == ["1.jpg"]


def test_a_sample_of_a_large_table_takes_little_memory():
    """2,000 pictures of 50,000: all of them as lists would take 20 MB and more."""
    Product.objects.create(name="0", image="0.jpg")
    columns = {field.column: field.column for field in Product._meta.concrete_fields if not field.primary_key}
    columns |= {"name": "n::text", "image": "n || '.jpg'"}
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO testshop_product ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
            "FROM testshop_product, generate_series(1, 49999) n"
        )
    for read in (read_catalogue, sample_catalogue):
        tracemalloc.start()
        assert len(read(get_field("testshop.Product"), ["name"], limit=2000)) == 2000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6_000_000


@pytest.mark.parametrize("path", ["colour", "category__colour", "name__first"])
def test_an_unknown_label_is_named_with_the_valid_ones(path):
    with pytest.raises(LookupError, match=f"testshop.Product has no '{path}' to learn from. It has: category, .*price"):
        read_catalogue(get_field("testshop.Product"), [path])
