"""A month of shoppers: feedback brings what they look for to the top, and click fraud does not.

What is shown is found by pictures; what shoppers do depends on more than that (tests/shoppers.py), and on the rank. The
first day and the fraud go through the REST API, the other days through the functions behind it.
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
from django.utils import timezone

from django_visual_search import feedback, search, storefront
from django_visual_search.fields.registry import get_field
from django_visual_search.models import Evidence, Feedback, SearchLog
from django_visual_search.search.planning import forget_facts
from django_visual_search.spaces.extractors import extractor_of

from ..shoppers import Shop, Shopper
from ..testshop.models import DIMENSIONS, Product

pytestmark = pytest.mark.django_db

DAYS = 30
VISITS = 60  # a day
SHOP = {"products": 240, "styles": 4, "queries": 40}
TABLES = (Feedback, Evidence, SearchLog, Product)


class Month:
    """A shop with shoppers, each of whom comes once, from another IP address."""

    def __init__(self, seed: int, bias: float = 1.0) -> None:
        self.shop = Shop(dimensions=DIMENSIONS, seed=seed, **SHOP)
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
        for day in range(days):
            for _ in range(visits):
                self.visit(by_api=day == 0)
            feedback.aggregate()
            self.a_day_later(of=days - day)
            if day % 7 == 0:
                self.vacuum()

    def visit(self, by_api: bool) -> None:
        self.shoppers += 1
        shopper = Shopper(self.shop, self.rng, self.bias)
        browser = {"REMOTE_ADDR": f"10.{self.shoppers // 62500}.{self.shoppers // 250 % 250}.{self.shoppers % 250}"}
        request = RequestFactory().post("/", **browser)
        if by_api:
            page = self.similar(shopper.query, **browser)
            keys, token = [int(hit["id"]) for hit in page["results"]], page["token"]
        else:
            results = storefront.similar_items(Product(pk=shopper.query), request, limit=12)
            keys, token = [hit.product.pk for hit in results], results.token
        did = shopper.visit(keys)
        events = [("impression", str(key)) for key in keys] + [(event.kind, str(event.product)) for event in did]
        if by_api:
            assert self.report(token, events, **browser) == 202
        else:
            feedback.report(request, token, events)
        for bought in shopper.buys(did):
            # The shop's own code at the checkout, and where it takes back parcels.
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

    def a_day_later(self, of: int) -> None:
        """Make the evidence a day older, for the database has its own clock; today's events ``of`` days at once.

        They are counted, and nobody comes again, so that how old they are says nothing before the month is over.
        """
        Evidence.objects.update(as_of=F("as_of") - timedelta(days=1))
        today = timezone.now() - timedelta(hours=1)
        for model in (Feedback, SearchLog):
            model.objects.filter(created_at__gt=today).update(created_at=F("created_at") - timedelta(days=of))
        forget_facts()

    def vacuum(self) -> None:
        """Clear the indexes of versions that nobody sees any more, of which each day leaves some."""
        if not connection.in_atomic_block:
            with connection.cursor() as cursor:
                cursor.execute(f"VACUUM ANALYZE {', '.join(model._meta.db_table for model in TABLES)}")
        forget_facts()

    def orders(self, **how) -> dict[int, list[int]]:
        """Return the first hundred hits of each query."""
        forget_facts()
        return {
            int(query): [hit.product.pk for hit in search.similar_to(Product(pk=query), limit=100, **how)]
            for query in self.shop.queries
        }

    def ndcg(self, orders: dict[int, list[int]]) -> float:
        """Return the mean nDCG@10 under the hidden relevance."""
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


@pytest.fixture(scope="module")
def learned(month):
    """The visual order of each query's hits and that with feedback, after the month and before anybody cheats."""
    return month.orders(ranking=False), month.orders()


def test_a_month_of_shoppers_improves_rankings(month, learned):
    visual, ranked = map(month.ndcg, learned)
    print(f"\nnDCG@10: visual order {visual:.3f}, with a month's feedback {ranked:.3f}, {ranked / visual - 1:+.1%}")
    assert ranked > 1.05 * visual
    kinds = set(Feedback.objects.values_list("kind", flat=True))
    assert kinds == {"impression", "click", "favourite", "cart", "purchase", "skip", "return"}


def test_it_improves_most_products(month, learned):
    visual, ranked = learned
    gains = [month.shop.ndcg(query, ranked[query]) - month.shop.ndcg(query, visual[query]) for query in visual]
    print(
        f"\nbetter {sum(gain > 0.001 for gain in gains)}, worse {sum(gain < -0.001 for gain in gains)} of {len(gains)}"
    )
    assert sum(gain > 0.001 for gain in gains) > 2 * sum(gain < -0.001 for gain in gains)


class Fraud:
    """A fraudster who wants one product on top, and has what a browser has: pages, and their tokens."""

    def __init__(self, month: Month, shown: dict[int, list[int]]) -> None:
        self.month = month
        queries = [query for query, order in shown.items() if len(order) > 11]
        # The product that is in the most first pages without belonging there
        worst = {
            product: sum(month.shop.relevance[query, product] for query in queries)
            for query in queries
            for product in shown[query][8:12]
        }
        self.product = min(worst, key=lambda product: worst[product])
        self.queries = [query for query in queries if self.product in shown[query][:12]]

    def hammer(self, times: int, **browser) -> str:
        """Search, and report a click, a favourite and a cart each time; return the last token."""
        token = ""
        for i in range(times):
            cache.clear()  # with the patience that throttles ask for
            page = self.month.similar(self.queries[i % len(self.queries)], **browser)
            token = page["token"]
            assert self.month.report(token, self.events, **browser) == 202
        return token

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(kind, str(self.product)) for kind in ("click", "favourite", "cart")]


def test_click_fraud_moves_next_to_nothing(month, learned):
    """One session that hammers, replayed and forged tokens: below 1 %."""
    before = month.orders()
    fraud = Fraud(month, shown=before)
    events = Feedback.objects.count()
    token = fraud.hammer(300, REMOTE_ADDR="192.0.2.7")
    counted = Feedback.objects.count()
    assert counted > events  # the first of each is taken for a shopper's
    for _ in range(100):
        cache.clear()
        month.report(token, fraud.events, REMOTE_ADDR="192.0.2.7")
    assert Feedback.objects.count() == counted
    head, _, signature = token.rpartition(":")
    for forged in (f"{head}:{signature[::-1]}", f"{head[::-1]}:{signature}", token[1:], head, "", "x" * 2000):
        assert month.report(forged, fraud.events, REMOTE_ADDR="203.0.113.9") == 400
    # Of a page where it was not shown
    other = next(query for query, order in before.items() if fraud.product not in order[:12])
    page = month.similar(other, REMOTE_ADDR="203.0.113.9")
    assert month.report(page["token"], fraud.events, REMOTE_ADDR="203.0.113.9") in (202, 400)
    assert Feedback.objects.count() == counted
    feedback.aggregate()

    moved, ranks = effect(month, before, fraud)
    print(f"\none session: nDCG@10 {moved:+.2%}, the product's mean rank {ranks[0]:.1f} to {ranks[1]:.1f}")
    assert abs(moved) < 0.01
    assert ranks[1] > 0.9 * ranks[0]


def effect(month, before, fraud) -> tuple[float, tuple[float, float]]:
    """Return the relative change of nDCG@10, and the product's mean rank before and after."""
    after = month.orders()
    ranks = mean_rank(before, fraud.product), mean_rank(after, fraud.product)
    return month.ndcg(after) / month.ndcg(before) - 1, ranks


def test_a_network_of_sessions_moves_less_than_as_many_visitors(month):
    """Two hundred that report the same, first from one network, then each from a network of its own."""
    fraud = Fraud(month, shown=month.orders())
    found = []
    for address in ("198.51.100.1", "172.16.{0}.1"):
        before = month.orders()
        for i in range(200):
            fraud.hammer(1, REMOTE_ADDR=address.format(i), HTTP_USER_AGENT=f"Firefox/{i}")
        feedback.aggregate()
        found.append(effect(month, before, fraud))
    for name, (moved, ranks) in zip(("one network", "200 visitors"), found, strict=True):
        print(f"\n{name}: nDCG@10 {moved:+.2%}, the product's mean rank {ranks[0]:.1f} to {ranks[1]:.1f}")
    (moved, network), (_, visitors) = found
    assert abs(moved) < 0.01
    assert network[1] > 0.9 * network[0]
    assert visitors[1] < 0.7 * visitors[0]
