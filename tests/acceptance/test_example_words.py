"""Searches by text in the example shop: names of unseen products, and "like this photo, but in another colour"."""

import re

import pytest

from ..example import demo_shop  # noqa: F401

COMPOSED = """
from random import Random
from django_visual_search import search
from example_project.shop import filling
from example_project.shop.models import ProductImage

designs = {item.sku: item.design for item in filling.items()}

def colours(sku):
    design = designs[sku]
    return {design.colour, design.second} if design.pattern else {design.colour}

rng, right, asked = Random(0), 0, 0
pictures = [one for one in ProductImage.objects.select_related("product").order_by("pk")]
for picture in rng.sample(pictures, 50):
    sku = picture.product.sku
    kind = designs[sku].kind
    alike = [other for other in designs if designs[other].kind == kind and other != sku]
    others = sorted(set().union(*map(colours, alike)) - colours(sku))
    colour = rng.choice(others)
    with picture.image.open() as photo:
        hits = search.search_by_image(photo, "shop.Product.embedding", text=f"but {colour.lower()}", limit=2)
    first = next(hit.product.sku for hit in hits if hit.product.sku != sku)
    asked += 1
    right += designs[first].kind == kind and colour in colours(first)
print(right / asked)
"""
"""Photos are the shop's further pictures, which are not searched. A plant's colour is that of its pot."""


@pytest.fixture(scope="module")
def shop(demo_shop):  # noqa: F811
    return demo_shop


def test_names_of_unseen_products_find_their_pictures(shop):
    said = shop.manage("train_embedding", "shop.Product.embedding", "--text", "--seed", "1")
    (share,) = re.findall(r"in the first 10 (\d\.\d+)", said)
    assert float(share) >= 0.95


def test_like_this_photo_but_in_another_colour(shop):
    if "classic" in shop.python("from django.conf import settings; print(settings.EXTRACTOR)"):
        pytest.skip("the example is served by a descriptor of colours, which does not tell kinds apart")
    assert float(shop.python(COMPOSED)) >= 0.6
