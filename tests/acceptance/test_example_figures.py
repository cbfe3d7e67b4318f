"""What the demo shop finds as it is shipped: kinds and colours among similar items."""

import json

import pytest

from ..example import demo_shop  # noqa: F401

SIMILAR = """
import json
from django_visual_search import search
from example_project.shop.drawing.palette import COLOURS
from example_project.shop.models import Product
products = {product.pk: product for product in Product.objects.select_related("category")}
colours = {pk: {name for name in COLOURS if name in one.name.rpartition(",")[2]} for pk, one in products.items()}
kinds, shared = [], []
for pk, product in products.items():
    hits = [hit.product.pk for hit in search.similar_to(product, limit=8, ranking=False)]
    assert len(hits) == 8
    kinds.append([products[hit].category_id == product.category_id for hit in hits])
    shared += [bool(colours[hit] & colours[pk]) for hit in hits]
flat = [same for row in kinds for same in row]
print(json.dumps([sum(flat) / len(flat), sum(not any(row) for row in kinds), sum(shared) / len(shared)]))
"""


@pytest.fixture(scope="module")
def told(demo_shop):  # noqa: F811
    return lambda program: json.loads(demo_shop.python(program))


def test_similar_items_are_of_the_same_kind_and_of_its_colours(told):
    kind, without, colour = told(SIMILAR)
    assert kind >= 0.93
    assert without <= 1
    assert colour >= 0.15  # within a kind, at most about 0.25 is possible
