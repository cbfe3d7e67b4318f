"""Several at work on the same rows: two sweeps, tasks out of order, the shop's own transactions."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.core.serializers import serialize
from django.db import DatabaseError, close_old_connections, connection, transaction

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.models import IndexingAttempt
from django_visual_search.tasks import embed

from ..conftest import embed_all
from ..processes import REDIS, need, shop, until  # noqa: F401
from ..testshop.celery import app
from ..testshop.faulty import WAIT, numbered
from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Product

LABEL = "testshop.Product.embedding"
COMPANION = "testshop.ArticleImageEmbedding.embedding"
SWEEP = f"""
import django; django.setup()
from django_visual_search import indexing
from django_visual_search.fields import registry
indexing.sweep(registry.get_field({LABEL!r}))
"""


@pytest.fixture
def elsewhere():
    """Runs a function in another thread, with a database connection of its own."""
    with ThreadPoolExecutor(4) as threads:

        def run(function, *args):
            def work():
                try:
                    return function(*args)
                finally:
                    connection.close()

            return threads.submit(work)

        yield run
    close_old_connections()


@contextlib.contextmanager
def sweeping(elsewhere, label):
    """Two sweeps that go on and on in other threads; what went wrong in them is raised at the end."""
    stop = threading.Event()

    def sweep():
        while not stop.is_set():
            found = embed_all(label)
            if not found.done and not found.skipped:
                stop.wait(0.01)  # else sweeps that find nothing keep from the processor whoever makes work for them

    sweeps = [elsewhere(sweep) for _ in range(2)]
    try:
        yield
    finally:
        stop.set()
    for one in sweeps:
        one.result(30)


def vector_of(product):
    return Product.objects.values_list("embedding", flat=True).get(pk=product.pk)


def expected(number):
    """The vector of a numbered picture, from a product of its own."""
    product = Product.objects.create(image=numbered(number))
    embed_all()
    return vector_of(product)


def test_two_sweeps_at_once_do_no_work_twice(shop):  # noqa: F811
    shop.configure(delay=0.005, LEASE_SECONDS=60, BATCH_SIZE=8)
    Product.objects.bulk_create(Product(image=numbered(number)) for number in range(300))
    sweeps = [shop.start("-c", SWEEP) for _ in range(3)]
    for process in sweeps:
        assert process.wait(60) == 0, process.log.read_text()
    assert sorted(shop.calls) == list(range(300))
    assert Product.objects.filter(embedding=None).count() == 0
    assert not IndexingAttempt.objects.exists()


def test_one_call_of_the_extractor_may_outlast_the_lease(shop, elsewhere):  # noqa: F811
    """The claims are renewed while it runs, so nobody else begins, and no attempt counts as lost."""
    need(REDIS)
    shop.configure(LEASE_SECONDS=0.9, BATCH_SIZE=8)
    Product.objects.bulk_create(Product(image=numbered(number, WAIT if number == 3 else 0)) for number in range(8))
    slow = elsewhere(embed_all)
    until((shop.folder / "waiting").exists, 20, "the inference")
    for _ in range(30):  # three leases
        assert not embed_all().settled, "all pictures are held"
        time.sleep(0.1)
    assert set(IndexingAttempt.objects.values_list("state", "attempts")) == {("running", 1)}
    (shop.folder / "go").touch()
    assert slow.result(20).done == 8
    assert sorted(shop.calls) == list(range(8))


def test_two_saves_with_their_tasks_run_in_reverse_order(shop):  # noqa: F811
    need(REDIS)
    product = Product.objects.create(image=numbered(1))
    product.image.save("2.png", numbered(2))
    second, first = ([product.pk],) * 2
    embed(LABEL, second)
    after_second = vector_of(product)
    embed(LABEL, first)
    assert vector_of(product) == after_second == expected(2)


@pytest.mark.parametrize("change", ["replaced", "overwritten", "cleared", "deleted"])
def test_a_picture_changed_while_its_task_is_busy_with_it(shop, elsewhere, change):  # noqa: F811
    need(REDIS)
    product = Product.objects.create(image=numbered(1, WAIT))
    task = elsewhere(embed, LABEL, [product.pk])
    until((shop.folder / "waiting").exists, 20, "the task's inference")
    if change == "replaced":
        product.image.save("2.png", numbered(2))
    elif change == "overwritten":
        name = product.image.name
        product.image.storage.delete(name)
        product.image.save("1.png", numbered(2))
        assert product.image.name == name
    elif change == "cleared":
        product.image = ""
        product.save()
    else:
        product.delete()
    (shop.folder / "go").touch()
    task.result(20)
    if change == "deleted":
        assert embed_all().done == 0
        assert not IndexingAttempt.objects.exists()
        return
    assert vector_of(product) is None, "the old picture's vector is not written"
    embed_all()
    assert vector_of(product) == (None if change == "cleared" else expected(2))
    assert not indexing.stale(get_field(LABEL)).exists()


def test_what_no_signal_tells_is_found_by_the_sweep(shop, tmp_path):  # noqa: F811
    first = Product(image=numbered(1), name="bulk")
    Product.objects.bulk_create([first])
    storage = first.image.storage
    loaded = Product(pk=first.pk + 100, name="loaded", image=storage.save("products/loaded.png", numbered(2)))
    (tmp_path / "fixture.json").write_text(serialize("json", [loaded]))
    call_command("loaddata", str(tmp_path / "fixture.json"), verbosity=0)
    assert embed_all().done == 2
    Product.objects.update(image=storage.save("products/updated.png", numbered(3)))
    assert embed_all().done == 2
    Product.objects.filter(pk=first.pk).update(image="")
    assert embed_all().cleared == 1
    assert shop.calls == [1, 2, 3], "two products share a picture, which is embedded once"


def test_a_shops_transaction_that_holds_rows_neither_waits_nor_is_waited_for(shop, elsewhere):  # noqa: F811
    need(REDIS)
    products = Product.objects.bulk_create(Product(image=numbered(number)) for number in range(10))
    with transaction.atomic():
        Product.objects.select_for_update().get(pk=products[3].pk)
        report = elsewhere(embed_all).result(20)
        assert (report.done, report.skipped) == (9, 1)
        # The other rows were written and are free; ours too: the save takes no lock that a worker holds.
        Product.objects.filter(pk__in=[p.pk for p in products]).update(price=1)
    assert embed_all().done == 1


def test_saves_in_any_order_in_one_transaction_and_workers_do_not_deadlock(shop, elsewhere):  # noqa: F811
    """Same-name overwrites touch our rows in the shop's order, while sweeps claim and write the same ones."""
    need(REDIS)
    shop.configure(LEASE_SECONDS=0.05, BATCH_SIZE=8)
    products = Product.objects.bulk_create(Product(image=numbered(number)) for number in range(24))
    with sweeping(elsewhere, LABEL):
        for turn in range(6):
            with transaction.atomic():
                for product in products[::-1]:
                    product.image.storage.delete(product.image.name)
                    product.image.save(product.image.name.rpartition("/")[2], numbered(turn * 100))
    embed_all()
    assert not indexing.stale(get_field(LABEL)).exists()
    assert {tuple(vector) for vector in Product.objects.values_list("embedding", flat=True)} == {tuple(expected(500))}


def test_deleting_pictures_while_workers_write_their_companions(shop, elsewhere):  # noqa: F811
    """Django deletes the companion first and then the picture's row; workers lock them the other way around."""
    need(REDIS)
    shop.configure(BATCH_SIZE=4)
    article = Article.objects.create(title="a")
    with sweeping(elsewhere, COMPANION):
        for turn in range(15):
            images = ArticleImage.objects.bulk_create(
                ArticleImage(article=article, original=numbered(turn * 100 + number)) for number in range(12)
            )
            until(ArticleImageEmbedding.objects.exists, 10, "the first companions")
            for image in reversed(images):
                with transaction.atomic():
                    image.delete()
    assert not ArticleImageEmbedding.objects.exists()


def test_a_companion_that_the_shop_has_locked_is_left_alone(shop, elsewhere):  # noqa: F811
    need(REDIS)
    article = Article.objects.create(title="a")
    images = [ArticleImage.objects.create(article=article, original=numbered(number)) for number in range(3)]
    embed_all(COMPANION)
    indexing.mark_stale(get_field(COMPANION))
    with transaction.atomic():
        ArticleImageEmbedding.objects.select_for_update().get(pk=images[1].pk)
        assert elsewhere(embed_all, COMPANION).result(20).done == 2
        ArticleImage.objects.update(display_order=1)
    assert embed_all(COMPANION).done == 1


def test_force_does_not_wait_for_a_locked_row_while_it_holds_others(shop, elsewhere):  # noqa: F811
    need(REDIS)
    products = Product.objects.bulk_create(Product(image=numbered(number)) for number in range(5))
    embed_all()
    field = get_field(LABEL)
    with transaction.atomic():
        Product.objects.select_for_update().get(pk=products[2].pk)
        marking = elsewhere(indexing.mark_stale, field)
        until(lambda: elsewhere(indexing.stale(field).count).result(5) == 4, 10, "the other rows' marks")
        Product.objects.update(price=2)
    marking.result(10)
    assert indexing.stale(field).count() == 5


@contextlib.contextmanager
def locked(elsewhere, table):
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            held.set()
            done.wait(20)

    holding = elsewhere(hold)
    assert held.wait(10)
    try:
        yield
    finally:
        done.set()
        holding.result(20)


@contextlib.contextmanager
def missing(elsewhere, table):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        yield
        cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")


@pytest.mark.parametrize("fault", [locked, missing])
def test_a_save_goes_through_when_our_table_is_locked_or_missing(shop, elsewhere, fault):  # noqa: F811
    need(REDIS)
    product = Product.objects.create(image=numbered(1), name="before")
    embed_all()
    waiting_tasks(shop)
    product.image.storage.delete(product.image.name)
    with fault(elsewhere, IndexingAttempt._meta.db_table), transaction.atomic():
        product.name = "after"
        product.image.save("1.png", numbered(2))
        assert Product.objects.filter(name="after").exists(), "the transaction is in order"
    # The vector could not be marked in the shop's transaction, so the task is asked to do it.
    [(args, kwargs)] = waiting_tasks(shop)
    embed(*args, **kwargs)
    assert vector_of(product) == expected(2)


def waiting_tasks(shop):  # noqa: F811
    """(args, kwargs) of the tasks in the shop's queue, which are taken out of it."""
    found = []
    with app.connection_for_write() as used:
        queue = used.SimpleQueue(shop.settings.VISUAL_SEARCH["QUEUE"])
        with contextlib.suppress(queue.Empty):
            while True:
                message = queue.get(block=False)
                found.append(tuple(message.payload[:2]))
                message.ack()
        queue.close()
    return found


def test_a_save_goes_through_when_the_settings_name_no_extractor(shop, caplog):  # noqa: F811
    need(REDIS)
    product = Product.objects.create(image=numbered(1))
    shop.configure(EXTRACTORS={})
    product.name = "saved"
    product.save()
    assert Product.objects.get().name == "saved"
    assert "no extractor 'default'" in caplog.text


def test_a_database_error_of_a_task_gives_its_claims_back(shop):  # noqa: F811
    Product.objects.bulk_create(Product(image=numbered(number)) for number in range(3))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE testshop_product RENAME COLUMN embedding TO other")
    try:
        with pytest.raises(DatabaseError):
            embed_all()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE testshop_product RENAME COLUMN other TO embedding")
    assert indexing.pending(get_field(LABEL)).count() == 3
    assert embed_all().done == 3
