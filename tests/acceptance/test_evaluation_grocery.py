"""Real photos of a grocery, evaluated and checked; the small extractor keeps it fast."""

import io
import json

import pytest
from django.core.management import call_command

from django_visual_search.evaluation import OTHER_PICTURES, evaluate_field, measure_space
from django_visual_search.fields.registry import get_field
from django_visual_search.findability import Reason, check, unfindable_products
from django_visual_search.spaces.heads import serving_extractor

from .. import grocery
from ..conftest import embed_all
from ..integration.test_evaluation_space import PICTURES
from ..testshop.models import Article, ArticleImage, Category

pytestmark = [
    pytest.mark.skipif(not grocery.GROCERY.is_dir(), reason=f"{grocery.GROCERY} is not here"),
    pytest.mark.django_db,
]

PRODUCTS = 30
PHOTOS = 3
FEW = {"robustness_pictures": 4, "searches": 12}


@pytest.fixture
def shop(media):
    """Some products with photos of other days, in three departments; one photo is two products'."""
    media.mkdir()
    departments = {}
    pictures = []
    for label in range(PRODUCTS):
        own = [photo for photo in grocery.photos() if photo.label == label]
        own = own[:: max(1, len(own) // PHOTOS)][:PHOTOS]
        name = own[0].name.split("/")[1]
        if name not in departments:
            departments[name] = Category.objects.create(name=name)
        Article.objects.create(pk=label + 1, title=f"Product {label}", category=departments[name])
        pictures += [(label + 1, photo) for photo in own]
    twin = Article.objects.create(pk=PRODUCTS + 1, title="Twin", category=departments[name])
    grocery.link_pictures(media, [photo for _, photo in pictures])
    pictures.append((twin.pk, pictures[0][1]))
    ArticleImage.objects.bulk_create(ArticleImage(article_id=pk, original=photo.file_name) for pk, photo in pictures)
    embed_all(PICTURES)
    return get_field(PICTURES)


def test_real_photos(shop, tmp_path):
    evaluation = evaluate_field(shop, labels=["category"], **FEW)
    measured = measure_space(shop, serving_extractor(shop))
    # Stored and newly embedded vectors are the same, and so are their figures.
    served = evaluation.tasks[0].overall
    assert evaluation.tasks[0].name == OTHER_PICTURES
    assert measured[OTHER_PICTURES].as_dict() == pytest.approx(served.as_dict(), abs=0.02)
    assert 0.05 < served.recall[1] < 1  # by chance: 0.02
    assert served.recall[1] <= served.recall[5] <= served.recall[10]
    out, file = io.StringIO(), tmp_path / "figures.json"
    call_command("evaluate_search", PICTURES, "--json", str(file), stdout=out, stderr=io.StringIO(), **FEW)
    (figures,) = json.loads(file.read_text())["fields"]
    assert figures["tasks"][0]["overall"] == served.as_dict()

    check(shop, seed=0)
    pairs = {(row.product, row.other) for row in unfindable_products(Article, Reason.DUPLICATE)}
    assert pairs == {("1", str(PRODUCTS + 1)), (str(PRODUCTS + 1), "1")}
