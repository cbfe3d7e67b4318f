import pytest

from django_visual_search.evaluation.catalogue import read_catalogue
from django_visual_search.fields.registry import get_field

from ..testshop.models import Article, ArticleImage, Category, Product, Shoe, Story, StoryImage, Tag

pytestmark = pytest.mark.django_db


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
    found = read_catalogue(get_field("testshop.ArticleImageEmbedding.embedding"), ["category"])
    assert found.keys == [picture.pk for picture in pictures]
    assert found.products == [str(article.pk), str(article.pk), str(bare.pk)]
    assert found.labels["category"] == [str(hats.pk), str(hats.pk), ""]


def test_a_picture_whose_product_is_found_by_another_column_or_is_not_there():
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


def test_within_and_limit():
    made = [Product.objects.create(name=str(i), image=f"{i}.jpg", price=i) for i in range(5)]
    field = get_field("testshop.Product")
    assert read_catalogue(field, within=Product.objects.filter(price__gte=2)).keys == [p.pk for p in made[2:]]
    assert read_catalogue(field, within=Product.objects.filter(price__gte=2), limit=2).keys == [p.pk for p in made[2:4]]


@pytest.mark.parametrize("path", ["colour", "category__colour", "name__first"])
def test_a_label_that_is_not_there_is_named_with_those_that_are(path):
    with pytest.raises(LookupError, match=f"testshop.Product has no '{path}' to learn from. It has: category, .*price"):
        read_catalogue(get_field("testshop.Product"), [path])
