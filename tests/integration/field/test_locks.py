"""Row 24: what we change in many rows at once never makes a shop's transaction the victim of a deadlock."""

import random
import threading
import uuid

import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from django_visual_search.admin.attempts import embed_again
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import mark_stale
from django_visual_search.indexing.sweeping import drop_needless_attempts
from django_visual_search.models import IndexingAttempt

from ...testshop.models import DIMENSIONS, Product

pytestmark = pytest.mark.slow

LABEL = "testshop.Product.embedding"
ROWS = 120
KEY = "an extractor and a picture"


@pytest.fixture
def products(transactional_db):
    vector = {"embedding": [1.0] * DIMENSIONS, "embedding_key": KEY}
    return Product.objects.bulk_create(Product(name=str(n), image=f"{n}.jpg", **vector) for n in range(ROWS))


class Shop:
    """Transactions of the shop's own, in threads: ``change`` one product after another in an order of its own."""

    def __init__(self, change, keys, writers=2):
        self.change, self.keys = change, keys
        self.done, self.deadlocks, self.stop = 0, 0, threading.Event()
        self.threads = [threading.Thread(target=self.write, args=[seed]) for seed in range(writers)]

    def write(self, seed):
        # Writers have rows of their own, so that they don't meet each other.
        mine = self.keys[seed :: len(self.threads)]
        order = random.Random(seed)
        try:
            while not self.stop.is_set():
                try:
                    with transaction.atomic():
                        for key in order.sample(mine, 20):
                            self.change(key)
                    self.done += 1
                except OperationalError as e:
                    if "deadlock" not in str(e):
                        raise
                    self.deadlocks += 1
        finally:
            connections.close_all()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def price(key):
    Product.objects.filter(pk=key).update(price=random.randrange(100))


def save(key):
    """What a save of a picture under the same name does to the attempts, inside of the shop's transaction."""
    mark_stale(get_field(LABEL), [key])


def attempts(keys):
    field, lease = get_field(LABEL), {"token": uuid.uuid4(), "leased_until": timezone.now(), "attempts": 1}
    IndexingAttempt.objects.bulk_create(
        [IndexingAttempt(label=field.label, object_id=str(key), key="k", state="refused", **lease) for key in keys],
        ignore_conflicts=True,
    )


@pytest.mark.parametrize("rows", ["some", "all"])
def test_embed_again_beside_price_writers(products, rows):
    keys = [product.pk for product in products]
    with Shop(price, keys) as shop:
        for turn in range(6):
            order = random.Random(turn).sample(keys, len(keys))
            if rows == "some":
                embed_again([(get_field(LABEL), order)])
            else:
                mark_stale(get_field(LABEL))
    assert shop.done
    assert shop.deadlocks == 0
    assert not Product.objects.filter(embedding_key=KEY).exists()


@pytest.mark.parametrize(
    "ours", [lambda: mark_stale(get_field(LABEL)), lambda: drop_needless_attempts(get_field(LABEL))]
)
def test_attempts_beside_saves(products, ours):
    keys = [product.pk for product in products]
    attempts(keys)
    with Shop(save, keys) as shop:
        for _ in range(3):
            ours()
            attempts(keys)
    assert shop.done
    assert shop.deadlocks == 0
