"""Workers and decoders that are killed, and pictures that kill them."""

import os
import signal
import time
from io import BytesIO

import numpy as np
import pytest
from django.core.files.base import ContentFile
from PIL import Image

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.models import IndexingAttempt
from django_visual_search.spaces.extractors import extractor_of

from ..processes import REDIS, need, shop, until  # noqa: F401
from ..testshop.faulty import FAIL, KILL, WAIT, numbered
from ..testshop.models import Product

LABEL = "testshop.Product.embedding"


@pytest.fixture(autouse=True)
def redis():
    need(REDIS)


def make(numbers, order=0):
    """Products of which no worker has heard, as ``bulk_create`` makes them."""
    products = [Product(name=str(number), image=numbered(number, order)) for number in numbers]
    return Product.objects.bulk_create(products)


def embedded():
    return set(Product.objects.exclude(embedding=None).values_list("name", flat=True))


def states():
    return dict(IndexingAttempt.objects.values_list("object_id", "state"))


def test_a_worker_killed_mid_batch_loses_nothing(shop):  # noqa: F811
    shop.configure(delay=0.02)
    make(range(100))
    killed = shop.worker(beat=True)
    until(lambda: len(embedded()) >= 32, 60, "the first batch")
    pids = set(shop.children())
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    until(lambda: not pids & set(shop.children()), 5, "the end of the decoders too")
    assert indexing.stale(get_field(LABEL)).count() == 100 - len(embedded()) > 0
    shop.worker(beat=True)
    until(lambda: len(embedded()) == 100, 60, "recovery")
    until(lambda: not IndexingAttempt.objects.exists(), 5, "the end of every claim")


def test_a_picture_that_kills_its_worker_is_quarantined_and_its_neighbours_are_done(shop):  # noqa: F811
    shop.configure(LEASE_SECONDS=1.5)
    make(range(20))
    [killer] = make([20], KILL)
    make(range(21, 40))
    shop.worker(beat=True)
    until(lambda: states().get(str(killer.pk)) == "quarantined", 60, "quarantine")
    until(lambda: len(embedded()) == 39, 30, "the neighbours' vectors")
    assert shop.calls.count(20) == 3
    attempt = IndexingAttempt.objects.get()
    assert (attempt.code, attempt.attempts) == ("worker_lost", 3)
    calls = len(shop.calls)
    time.sleep(2)  # two sweeps
    assert len(shop.calls) == calls, "a quarantined picture is left alone"
    killer.image.save("good.png", numbered(50))
    until(lambda: killer.name in embedded(), 30, "the vector of the picture that replaced it")
    assert not IndexingAttempt.objects.exists()


def test_a_picture_on_which_the_extractor_fails_takes_nothing_along(shop):  # noqa: F811
    make(range(10))
    [bad] = make([10], FAIL)
    make(range(11, 20))
    report = indexing.sweep(get_field(LABEL))
    assert (report.done, report.failed) == (19, 1)
    shop.worker(beat=True)
    until(lambda: states() == {str(bad.pk): "quarantined"}, 60, "quarantine")
    assert IndexingAttempt.objects.get().message == "RuntimeError: asked to fail"


def large(kind):
    """A picture of 36 megapixels (PNG: 108 MB to decode) or 81 (GIF: two tenths of a second to decode)."""
    side, channels = (9000, ()) if kind == "GIF" else (6000, (3,))
    tile = np.random.default_rng(0).integers(0, 255, (side, 60, *channels), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(np.tile(tile, (1, side // 60, *(1 for _ in channels)))).save(file, kind, compress_level=1)
    return ContentFile(file.getvalue(), name=f"large.{kind.lower()}")


def test_a_picture_that_takes_too_long_is_given_up(shop):  # noqa: F811
    shop.configure(DECODE_SECONDS=0.1, LEASE_SECONDS=0)
    make(range(5))
    slow = Product.objects.create(name="slow", image=large("GIF"))
    make(range(5, 10))
    report = indexing.sweep(get_field(LABEL))
    assert (report.done, report.refused) == (10, 1)
    attempt = IndexingAttempt.objects.get()
    assert (attempt.object_id, attempt.state, attempt.code) == (str(slow.pk), "refused", "time")


def test_a_picture_that_takes_too_much_memory_is_refused(shop):  # noqa: F811
    shop.configure(DECODE_MEMORY_MB=150)
    make(range(5))
    hungry = Product.objects.create(name="hungry", image=large("PNG"))
    make(range(5, 10))
    report = indexing.sweep(get_field(LABEL))
    assert (report.done, report.refused) == (10, 1)
    attempt = IndexingAttempt.objects.get()
    assert (attempt.object_id, attempt.state, attempt.code) == (str(hungry.pk), "refused", "memory")


def test_decoders_that_can_not_start_are_no_pictures_fault(shop):  # noqa: F811
    from django_visual_search.extractors import ExtractorUnavailable

    shop.configure(DECODE_MEMORY_MB=10)
    make(range(5))
    with pytest.raises(ExtractorUnavailable, match="DECODE_MEMORY_MB"):
        indexing.sweep(get_field(LABEL))
    assert indexing.pending(get_field(LABEL)).count() == 5
    assert not IndexingAttempt.objects.filter(attempts__gt=0).exists()


def test_every_worker_process_has_decoders_of_its_own_and_they_end_with_it(shop):  # noqa: F811
    shop.configure(DECODERS=2)
    worker = shop.worker(processes=2)
    make(range(2), WAIT)
    from django_visual_search.indexing.publishing import enqueue
    from django_visual_search.tasks import embed

    # One waiting picture keeps one worker process busy, so the other takes the other.
    for product in Product.objects.order_by("pk"):
        assert enqueue(embed, LABEL, [product.pk])
    until(lambda: len(shop.decoders()) == 2, 30, "a decoder for each process")
    (shop.folder / "go").touch()
    until(lambda: len(embedded()) == 2, 30, "both vectors")
    worker.terminate()
    assert worker.wait(20) == 0
    until(lambda: not shop.children(), 5, "the end of the decoders")


def test_a_forked_child_has_a_pool_of_its_own_and_leaves_the_parents_alone(shop):  # noqa: F811
    field = get_field(LABEL)
    make([0])
    indexing.sweep(field)
    from django_visual_search.decoding import pool

    parents = pool.get_pool()
    [decoder] = [d for d in parents.decoders if d.process]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = pool.get_pool()
            image = Product.objects.model(image="products/none.png").image
            [reason] = mine.submit(image.storage, [image.name], extractor_of(field).spec)[0].result(10)
            if isinstance(reason, FileNotFoundError):
                code = 0 if mine is not parents else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert decoder.process.poll() is None
    make([1])
    assert indexing.sweep(field).done == 1


def test_decoders_end_when_a_process_that_has_forked_is_killed(shop):  # noqa: F811
    """The child outlives its parent and must not keep the parent's decoders alive."""
    make(range(3))
    script = (
        "import django, os, time; django.setup()\n"
        "from django_visual_search import indexing\nfrom django_visual_search.fields.registry import get_field\n"
        f"indexing.sweep(get_field({LABEL!r}))\n"
        "os.fork()\nprint('forked', flush=True)\ntime.sleep(60)"
    )
    process = shop.start("-c", script)
    until(lambda: process.log.read_text().count("forked") == 2, 30, "the fork")
    assert shop.decoders()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not shop.decoders(), 5, "the end of the decoders")
    assert shop.children(), "the child lives"
