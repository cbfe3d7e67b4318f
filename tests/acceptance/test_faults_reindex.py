"""``reindex_embeddings``: what it says, its exit codes, and the work by Celery workers."""

import os
import re
import signal

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field

from ..processes import REDIS, closed_port, need, shop, silent_broker, until  # noqa: F401
from ..testshop.faulty import FAIL, numbered
from ..testshop.models import Product, Spare

LABEL = "testshop.Product.embedding"


def make(numbers):
    return Product.objects.bulk_create(Product(name=str(number), image=numbered(number)) for number in numbers)


def embedded():
    return Product.objects.exclude(embedding=None).count()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["shop.Nothing.embedding"],
            r"There is no embedding field 'shop.Nothing.embedding'. This project has: testshop",
        ),
        ([LABEL, "--batch-size", "0"], "--batch-size must be at least 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(CommandError, match=message):
        call_command("reindex_embeddings", *arguments)


def test_the_summary_in_plain_lines_and_a_failing_exit_code(shop):  # noqa: F811
    make(range(40))
    bad = Product.objects.create(image=ContentFile(b"no picture", name="bad.jpg"))
    [failing] = Product.objects.bulk_create([Product(image=numbered(50, FAIL))])
    cleared = Product.objects.create(image="")
    Product.objects.filter(pk=cleared.pk).update(embedding_key="left over")
    code, output = shop.run("reindex_embeddings", LABEL, "--sync", "--batch-size", "16")
    assert code == 1
    lines = output[output.index(LABEL) :].splitlines()
    assert lines[0] == f"{LABEL}: 43 of 43 pictures to embed"
    progress = [line for line in lines if line.startswith("pictures: ")]
    assert re.fullmatch(r"pictures: 43/43 \[\d+:\d\d<00:00, +[\d.]+/s\]", progress[-1]), (
        "plain lines without a terminal"
    )
    assert len([line for line in progress if line.startswith("pictures: 43/")]) == 1
    assert f"{LABEL}: 40 done, 0 skipped, 1 cleared, 1 refused, 1 failed, 0 quarantined" in lines
    assert any(
        line.startswith(f"  refused: {bad.pk} ({bad.image.name}): ") and line.endswith("[format]") for line in lines
    )
    assert any(
        line.startswith(f"  failed: {failing.pk} ") and line.endswith("asked to fail [extractor]") for line in lines
    )
    assert lines[-1] == "CommandError: Some pictures have no vector; see the reasons above."
    assert "\r" not in output
    # Cured by better pictures, and by none.
    failing.image.save("good.png", numbered(51))
    Product.objects.filter(pk=bad.pk).update(image="")
    code, output = shop.run("reindex_embeddings", LABEL, "--sync")
    assert (code, embedded()) == (0, 41), output
    assert f"{LABEL}: 1 done, 42 skipped, 0 cleared, 0 refused, 0 failed, 0 quarantined" in output


def test_all_fields_and_force(shop):  # noqa: F811
    make(range(3))
    Spare.objects.create(sku="a", image=numbered(7))
    code, output = shop.run("reindex_embeddings", "--sync")
    assert code == 0, output
    assert (embedded(), Spare.objects.exclude(embedding=None).count()) == (3, 1)
    assert shop.run("reindex_embeddings", "--sync", "--force")[0] == 0
    assert sorted(shop.calls) == [0, 0, 1, 1, 2, 2, 7, 7]


def test_by_workers_one_of_which_is_killed(shop):  # noqa: F811
    need(REDIS)
    shop.configure(delay=0.01, BATCH_SIZE=16)
    make(range(300))
    killed, other = shop.worker(processes=1), shop.worker(processes=1)
    command = shop.command("reindex_embeddings", LABEL, "--batch-size", "16")
    until(lambda: embedded() > 64, 60, "the middle of the reindex")
    os.killpg(killed.pid, signal.SIGKILL)
    assert command.wait(60) == 0, command.log.read_text()
    assert embedded() == 300
    assert f"{LABEL}: 300 done, 0 skipped" in command.log.read_text()
    assert "No Celery worker" not in command.log.read_text()
    assert other.poll() is None


def test_all_workers_killed_and_the_command_goes_on_alone(shop):  # noqa: F811
    need(REDIS)
    shop.configure(delay=0.02, BATCH_SIZE=16)
    make(range(100))
    worker = shop.worker(processes=1)
    command = shop.command("reindex_embeddings", LABEL)
    until(lambda: shop.calls, 60, "the first batch")
    os.killpg(worker.pid, signal.SIGKILL)
    assert command.wait(60) == 0, command.log.read_text()
    assert "No Celery worker answers; embedding in this process." in command.log.read_text()
    assert embedded() == 100


@pytest.mark.parametrize("fault", ["no worker", "refused", "silent"])
def test_no_worker_answers(shop, fault):  # noqa: F811
    need(REDIS)
    make(range(5))
    with silent_broker() as port:
        if fault != "no worker":
            shop.use_broker(f"redis://127.0.0.1:{port if fault == 'silent' else closed_port()}")
        code, output = shop.run("reindex_embeddings", LABEL, seconds=20)
    assert code == 0, output
    assert "No Celery worker answers; embedding in this process." in output
    assert embedded() == 5


def test_a_failing_picture_is_reported_by_workers_too(shop):  # noqa: F811
    need(REDIS)
    make(range(5))
    Product.objects.bulk_create([Product(image=numbered(50, FAIL))])
    shop.worker(processes=1)
    code, output = shop.run("reindex_embeddings", LABEL)
    assert code == 1
    assert f"{LABEL}: 5 done, 0 skipped, 0 cleared, 0 refused, 1 failed, 0 quarantined" in output
    assert indexing.stale(get_field(LABEL)).count() == 1
