"""A reindex that is killed, interrupted, or loses its database; and searches while it goes on."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from django_visual_search import indexing, search
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import ann
from django_visual_search.management.commands import reindex_embeddings
from django_visual_search.models import IndexingAttempt

from ..conftest import embed_all
from ..processes import shop, until  # noqa: F401
from ..testshop.faulty import make_alike
from ..testshop.models import Product

LABEL = "testshop.Product.embedding"
REINDEX = ("reindex_embeddings", LABEL, "--sync")
ROWS = 2200  # enough for the command to drop the index and build it again

MAKE = """
import django; django.setup()
from django.core.management import call_command
from tests.testshop.faulty import make_alike
call_command("migrate", run_syncdb=True)
make_alike({rows})
"""
LOOK = """
import django; django.setup()
from django_visual_search.indexing import ann
from django_visual_search.fields.registry import get_field
from tests.testshop.models import Product
print("embedded", Product.objects.exclude(embedding=None).count())
print("missing", len(ann.missing_indexes(get_field({label!r}))))
"""


@pytest.fixture
def index(shop):  # noqa: F811
    """Leaves the index of the field as it should be: DDL is not undone with the test's rows."""
    yield
    ann.build_indexes(get_field(LABEL))


def many(rows=ROWS):
    return make_alike(rows)


def embedded():
    return Product.objects.exclude(embedding=None).count()


def missing():
    return ann.missing_indexes(get_field(LABEL))


def states():
    """Return whether the index is valid; None while it doesn't exist."""
    return ann.existing_indexes(get_field(LABEL)).get("product_embedding_hnsw")


@pytest.fixture
def folder():
    """Not tmp_path: pytest's own folders are closed to the user as whom root runs PostgreSQL."""
    made = Path(tempfile.mkdtemp(prefix="cluster-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_postgresql_killed_in_a_reindex(shop, folder):  # noqa: F811
    """A server of the test's own; kept running by a process that uses it, and started again by the next one."""
    cluster = folder / "cluster"
    shop.configure(delay=0.0005)
    assert shop.start("-c", MAKE.format(rows=ROWS), cluster=cluster).wait(60) == 0
    killed = shop.command(*REINDEX, cluster=cluster)
    until(lambda: len(shop.calls) > 1200, 60, "the middle of the reindex")
    postmaster = int((cluster / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    assert killed.wait(30) == 1
    assert "The database went away. Run the command again" in killed.log.read_text()
    before = len(shop.calls)
    code, output = shop.run(*REINDEX, cluster=cluster)
    assert code == 0, output
    # The tests' servers commit asynchronously, so what was written in the last half second is lost.
    assert len(shop.calls) - before < ROWS - 300, "it goes on where it stopped"
    look = shop.start("-c", LOOK.format(label=LABEL), cluster=cluster)
    assert look.wait(60) == 0
    assert look.log.read_text().split() == ["embedded", str(ROWS), "missing", "0"]


def test_ctrl_c_in_the_middle_of_a_statement(shop, index, monkeypatch):  # noqa: F811
    """psycopg closes the connection where a statement doesn't end in time, and what is cleaned up then fails."""
    many(3)

    def interrupted(*arguments):
        try:
            raise KeyboardInterrupt
        finally:
            connection.connection.close()
            Product.objects.first()

    monkeypatch.setattr(reindex_embeddings.Command, "_embed", interrupted)
    with pytest.raises(CommandError, match="Stopped") as stopped:
        call_command(*REINDEX)
    assert stopped.value.returncode == 130
    assert Product.objects.count() == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_reindex_that_is_stopped_goes_on(shop, index, number, code):  # noqa: F811
    shop.configure(delay=0.0005)
    many()
    stopped = shop.command(*REINDEX)
    until(lambda: embedded() > 300, 60, "the middle of the reindex")
    os.kill(stopped.pid, number)
    assert stopped.wait(20) == code, stopped.log.read_text()
    until(lambda: not shop.decoders(), 5, "the end of the decoders")
    assert 0 < embedded() < ROWS
    assert missing(), "the index is rebuilt at the end"
    if number == signal.SIGINT:
        assert "Run the command again" in stopped.log.read_text()
        assert not IndexingAttempt.objects.filter(attempts__gt=0).exists(), "what was begun is given back"
    done = embedded()
    again, output = shop.run(*REINDEX)
    assert again == 0, output
    assert embedded() == ROWS
    assert not missing()
    assert len(shop.calls) <= ROWS + 3 * 64, f"{done} were done before"
    assert not IndexingAttempt.objects.exists()


def test_the_index_comes_back_when_the_command_was_killed_before_it_built_it(shop, index):  # noqa: F811
    many(50)
    embed_all()
    ann.drop_indexes(get_field(LABEL))
    assert states() is None
    code, output = shop.run(*REINDEX)
    assert code == 0, output
    assert "built index product_embedding_hnsw" in output
    assert states() is True


def test_sweeps_build_the_index_that_a_killed_command_left_dropped(shop, index, caplog):  # noqa: F811
    shop.configure(delay=0.0005)
    many()
    killed = shop.command(*REINDEX)
    until(lambda: embedded() > 300, 60, "the middle of the reindex")
    assert missing()
    assert ann.rebuild_lost(get_field(LABEL)) == [], "the command will build it"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(20)
    time.sleep(settings.VISUAL_SEARCH["LEASE_SECONDS"] + 0.5)
    assert missing()

    def sweep(_):
        try:
            return indexing.sweep(get_field(LABEL)).done
        finally:
            connections.close_all()

    before = embedded()
    with caplog.at_level("WARNING"), ThreadPoolExecutor(2) as threads:
        done = sum(threads.map(sweep, range(2)))
    assert states() is True
    assert [line for line in caplog.messages if "built index product_embedding_hnsw" in line] == caplog.messages[-1:]
    assert embedded() == before + done


def test_a_sweep_leaves_an_index_alone_that_no_command_dropped(shop, index):  # noqa: F811
    """It may be one that the shop has declared and not migrated yet: its migration would then fail."""
    many(50)
    assert shop.run(*REINDEX)[0] == 0
    ann.drop_indexes(get_field(LABEL))
    indexing.sweep(get_field(LABEL))
    assert states() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_cut_short_is_done_again(shop, index, number):  # noqa: F811
    many(50)
    embed_all()
    ann.drop_indexes(get_field(LABEL))
    with transaction.atomic():
        Product.objects.update(price=1)  # a build waits for those who write
        cut = shop.command(*REINDEX)
        until(lambda: states() is False, 30, "the half-built index")
        os.kill(cut.pid, number)
        assert cut.wait(20) == (130 if number == signal.SIGINT else -signal.SIGKILL)
        again = shop.command(*REINDEX)
        time.sleep(1)
    assert again.wait(60) == 0, again.log.read_text()
    assert states() is True


def test_searches_go_on_while_the_index_is_dropped_and_built(shop, index):  # noqa: F811
    many()
    assert embed_all().done == ROWS
    product = Product.objects.first()
    found, seen, stop = [], set(), threading.Event()

    def searching():
        try:
            while not stop.wait(0.02):  # which leaves the processor to the reindex
                found.append(len(search.similar_to(product, limit=20)))
                seen.add(states())
        finally:
            connection.close()

    thread = threading.Thread(target=searching)
    thread.start()
    code, output = shop.run(*REINDEX, "--force")
    stop.set()
    thread.join()
    assert code == 0, output
    assert f"{ROWS} done, 0 skipped" in output
    assert None in seen, "the index was dropped meanwhile"
    assert states() is True
    assert set(found) == {20}
    print(f"{len(found)} searches")


def test_two_reindexes_at_once(shop, index):  # noqa: F811
    shop.configure(delay=0.0005, LEASE_SECONDS=60)
    many()
    both = [shop.command(*REINDEX) for _ in range(2)]
    for process in both:
        assert process.wait(100) == 0, process.log.read_text()
    assert embedded() == ROWS == len(shop.calls)
    assert states() is True


def test_a_reindex_waits_for_what_a_killed_process_had_begun(shop):  # noqa: F811
    shop.configure(delay=0.02, LEASE_SECONDS=10)  # longer than a process takes to start
    many(64)
    killed = shop.command(*REINDEX)
    until(lambda: shop.calls, 30, "the first batch")
    os.kill(killed.pid, signal.SIGKILL)
    assert indexing.pending(get_field(LABEL)).count() < 64 - embedded(), "its claims still stand"
    code, output = shop.run(*REINDEX)
    assert code == 0, output
    assert "Waiting for pictures that another process works on" in output
    assert embedded() == 64


def test_a_bar_on_a_terminal(shop):  # noqa: F811
    many(70)
    primary, secondary = os.openpty()
    process = shop.start("-m", "django", *REINDEX, stdout=secondary, stderr=secondary)
    os.close(secondary)
    shown = b""
    try:
        while data := os.read(primary, 65536):
            shown += data
    except OSError:  # how the end of a terminal looks like on Linux
        pass
    os.close(primary)
    assert process.wait(30) == 0
    assert b"\rpictures: 100%|" in shown
    assert b"| 70/70 [" in shown
    assert b"\033[31" not in shown, "no red, which is for errors"
    assert b"70 done, 0 skipped" in shown


def test_ctrl_c_on_a_terminal_is_for_the_command_alone(shop):  # noqa: F811
    """The terminal's interrupt goes to every process in the foreground; the decoders print nothing."""
    shop.configure(delay=0.02)
    many(200)
    process = shop.start("-m", "django", *REINDEX, stderr=subprocess.STDOUT)
    until(lambda: embedded() > 0, 30, "the first batch")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert "Traceback" not in process.log.read_text()
    until(lambda: not shop.children(), 5, "the end of the decoders")
