"""A month of shoppers against the API: feedback brings what they look for to the top, and click fraud does not.

What is shown is found by pictures; what shoppers do depends on more than that (tests/shoppers.py), and on the rank.
"""

import json
import statistics
from datetime import timedelta

import numpy as np
import pytest
from django.core.cache import cache
from django.db import connection
from django.db.models import F
from django.test import Client, RequestFactory
from django.urls import reverse

from django_visual_search import feedback, search
from django_visual_search.backends import extractor_of
from django_visual_search.models import Evidence, Feedback, SearchLog
from django_visual_search.planning import forget_facts
from django_visual_search.registry import get_field

from .shoppers import Shop, Shopper
from .testshop.models import DIMENSIONS, Product

pytestmark = pytest.mark.django_db

DAYS = 30
VISITS = 100  # a day
SHOP = {"products": 240, "styles": 4, "asked": 40}
TABLES = (Feedback, Evidence, SearchLog, Product)


class Month:
    """A shop with shoppers, each of whom comes once, from an address of his own."""

    def __init__(self, seed: int, bias: float = 1.0) -> None:
        self.shop = Shop(SHOP["products"], DIMENSIONS, styles=SHOP["styles"], asked=SHOP["asked"], seed=seed)
        self.rng = np.random.default_rng([seed, 1])
        self.bias = bias
        self.shoppers = 0
        self.client = Client()
        key = extractor_of(get_field("testshop.Product")).spec.key
        Product.objects.bulk_create(
            Product(pk=i, name=str(i), image=f"{i}.jpg", embedding=vector, embedding_key=f"{key}:{i}.jpg")
            for i, vector in enumerate(self.shop.vectors.tolist())
        )
        forget_facts()
        cache.clear()

    def passes(self, visits: int = VISITS, days: int = DAYS) -> None:
        for _ in range(days):
            for _ in range(visits):
                self.visit()
            feedback.aggregate()
            self.a_day_later()

    def visit(self) -> None:
        self.shoppers += 1
        shopper = Shopper(self.shop, self.rng, self.bias)
        browser = {"REMOTE_ADDR": f"10.{self.shoppers // 62500}.{self.shoppers // 250 % 250}.{self.shoppers % 250}"}
        page = self.similar(shopper.query, **browser)
        keys = [hit["id"] for hit in page["results"]]
        did = shopper.visit([int(key) for key in keys])
        events = [("impression", key) for key in keys] + [(event.kind, str(event.product)) for event in did]
        assert self.report(page["token"], events, **browser) == 202
        for bought in shopper.buys(did):
            # The shop's own code at the checkout, and where it takes back parcels.
            request = RequestFactory().post("/", **browser)
            order = f"order {self.shoppers}"
            assert feedback.record(bought.kind, Product(pk=bought.product), request=request, reference=order)

    def similar(self, number: int, limit: int = 12, **browser) -> dict:
        address = reverse("visual_search:similar", args=["testshop", "product", number])
        answer = self.client.get(address, {"limit": limit}, **browser)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def report(self, token: str, events, **browser) -> int:
        said = {"token": token, "events": [{"kind": kind, "product": product} for kind, product in events]}
        address = reverse("visual_search:feedback")
        return self.client.post(address, json.dumps(said), content_type="text/plain", **browser).status_code

    def a_day_later(self) -> None:
        """Everything that is kept gets a day older, for the database has a clock of its own."""
        for model, field in ((Feedback, "created_at"), (Evidence, "as_of"), (SearchLog, "created_at")):
            model.objects.update(**{field: F(field) - timedelta(days=1)})
        forget_facts()

    def orders(self, **how) -> dict[int, list[int]]:
        """The hundred hits of each product that is asked about."""
        forget_facts()
        return {
            int(query): [hit.product.pk for hit in search.similar_to(Product(pk=query), limit=100, **how)]
            for query in self.shop.asked
        }

    def ndcg(self, orders: dict[int, list[int]]) -> float:
        """nDCG@10 under the hidden relevance, over the products that are asked about."""
        return statistics.mean(self.shop.ndcg(query, order) for query, order in orders.items())


def mean_rank(orders: dict[int, list[int]], product: int) -> float:
    return statistics.mean(order.index(product) + 1 for order in orders.values() if product in order)


@pytest.fixture(scope="module", autouse=True)
def database(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        yield
        empty()


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(model._meta.db_table for model in TABLES)} CASCADE")
    forget_facts()


@pytest.fixture(scope="module")
def month(database):
    empty()
    month = Month(seed=1)
    month.passes()
    return month
