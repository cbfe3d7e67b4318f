"""A save neither fails nor waits because of the broker, and what was not sent is found by the sweep."""

import logging
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from django.db import connection, transaction

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import publishing
from django_visual_search.tasks import embed

from ..conftest import embed_all
from ..processes import RABBITMQ, REDIS, closed_port, need, shop, silent_broker, until  # noqa: F401
from ..proxy import Proxy
from ..testshop.celery import app
from ..testshop.faulty import numbered
from ..testshop.models import Article, ArticleImage, Item, Product, Shoe


def messages(shop):  # noqa: F811 (the fixture)
    """How many tasks wait in the shop's queue."""
    from ..testshop.celery import app

    with app.connection_for_write() as connection:
        return connection.default_channel.queue_declare(
            shop.settings.VISUAL_SEARCH["QUEUE"], passive=True
        ).message_count


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("fault", ["refused", "silent"])
def test_a_save_with_a_dead_broker_succeeds_within_a_second(shop, scheme, fault, caplog):  # noqa: F811
    with silent_broker() as port:
        shop.use_broker(f"{scheme}://127.0.0.1:{port if fault == 'silent' else closed_port()}")
        publishing.connect(app).transport  # noqa: B018 - imports the client's library, whatever the broker does
        seconds = []
        with caplog.at_level(logging.WARNING, "django_visual_search"):
            for number in range(5):
                picture = numbered(number)
                started = time.perf_counter()
                Product.objects.create(image=picture)
                seconds.append(time.perf_counter() - started)
    print(f"{scheme} {fault}: {[round(1000 * s, 1) for s in seconds]} ms")
    assert max(seconds) <= 1.0
    assert [record.getMessage().startswith("visual search: the broker did not take") for record in caplog.records] == [
        True
    ]
    assert embed_all().done == 5


@pytest.fixture(params=[REDIS, RABBITMQ])
def proxy(request, shop):  # noqa: F811
    """The shop's broker behind a proxy."""
    need(request.param)
    url = urlsplit(request.param)
    with Proxy((url.hostname, url.port)) as proxy:
        shop.use_broker(request.param.replace(f":{url.port}/", f":{proxy.port}/"))
        yield proxy
        publishing.disconnect()


def test_a_save_when_the_broker_falls_silent(shop, proxy):  # noqa: F811
    """The connection is open already: the case of a broker's machine that freezes."""
    Product.objects.create(image=numbered(0))
    assert messages(shop) == 1
    proxy.freeze()
    seconds = []
    for number in range(1, 4):
        picture = numbered(number)
        started = time.perf_counter()
        Product.objects.create(image=picture)
        seconds.append(time.perf_counter() - started)
    print(f"{shop.broker}: {[round(1000 * s, 1) for s in seconds]} ms")
    assert max(seconds) <= 1.0
    assert embed_all().done == 4


def test_a_connection_that_the_broker_closed_is_replaced(shop, proxy):  # noqa: F811
    Product.objects.create(image=numbered(0))
    proxy.cut()
    until(lambda: not proxy.ends, 5, "the cut")
    for number in range(1, 3):
        Product.objects.create(image=numbered(number))
    until(lambda: messages(shop) >= 2, 5, "the messages' arrival")
    assert embed_all().done == 3


def test_connections_that_a_burst_of_saves_opened_are_closed_again(shop, proxy):  # noqa: F811
    def send(number):
        together.wait(10)
        try:
            return publishing.enqueue(embed, "testshop.Product.embedding", [number])
        finally:
            connection.close()

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(send, range(4)))
    opened = len(proxy.ends)
    assert opened > 2, "two ends a connection"
    publishing.close_oldest()
    assert len(proxy.ends) == opened, "none is old"
    for _ in range(4):
        publishing.close_oldest(idle_seconds=0)
    until(lambda: not proxy.ends, 5, "the end of all connections")
    assert publishing.enqueue(embed, "testshop.Product.embedding", [4])
    assert messages(shop) == 5


@pytest.mark.parametrize("url", [REDIS, RABBITMQ])
def test_a_save_with_a_healthy_broker_sends_the_work_and_costs_little(shop, url):  # noqa: F811
    need(url)
    shop.use_broker(url)
    field = get_field("testshop.Product.embedding")

    def save(number, send):
        product = Product(image=numbered(number))
        product.image.save(f"{number}.png", product.image.file, save=False)
        started = time.perf_counter()
        with transaction.atomic():
            product.save()
            if not send:
                transaction.set_rollback(True)
        return 1000 * (time.perf_counter() - started)

    save(0, True)  # connects
    cost = [save(number, True) for number in range(1, 41)]
    bare = [save(number, False) for number in range(41, 81)]
    print(f"{url}: save {statistics.median(cost):.2f} ms, without sending {statistics.median(bare):.2f} ms")
    until(lambda: messages(shop) == 41, 5, "all messages' arrival")
    assert indexing.pending(field).count() == 41


def test_a_saved_picture_is_sent_only_if_its_companion_is_stale(shop):  # noqa: F811
    need(REDIS)
    companion = "testshop.ArticleImageEmbedding.embedding"
    article = Article.objects.create(title="a")
    made = ArticleImage.objects.create(article=article, original=numbered(0))
    assert messages(shop) == 1
    assert embed_all(companion).done == 1
    loaded = ArticleImage.objects.get()
    loaded.display_order = 3
    loaded.save()
    assert messages(shop) == 1
    loaded.original.save("1.png", numbered(1))
    assert messages(shop) == 2
    assert embed_all(companion).done == 1
    loaded = ArticleImage.objects.get()
    loaded.original = made.original.name
    loaded.save()
    assert messages(shop) == 3
    assert embed_all(companion).done == 1
    ArticleImage(pk=made.pk, article=article, original=loaded.original.name).save()
    ArticleImage.objects.defer("original").get().save()
    assert messages(shop) == 3
    loaded.original = "elsewhere.png"
    loaded.save(update_fields=["display_order"])
    assert messages(shop) == 3
    loaded.save(update_fields=["original"])
    assert messages(shop) == 4


def test_a_picture_on_the_parents_table_is_sent_only_if_the_child_is_stale(shop):  # noqa: F811
    need(REDIS)
    Item.objects.create(image=numbered(0))
    shoe = Shoe.objects.create(image=numbered(1))
    sent = messages(shop)
    assert embed_all("testshop.Shoe.embedding").done == 1
    Item.objects.get(pk=shoe.pk).save()
    Item.objects.exclude(pk=shoe.pk).get().save()
    assert messages(shop) == sent
    Item.objects.get(pk=shoe.pk).image.save("2.png", numbered(2))
    assert messages(shop) == sent + 1


def test_a_rollback_sends_nothing(shop):  # noqa: F811
    need(REDIS)
    Product.objects.create(image=numbered(0))
    before = messages(shop)
    with transaction.atomic():
        Product.objects.create(image=numbered(1))
        transaction.set_rollback(True)
    assert messages(shop) == before == 1
