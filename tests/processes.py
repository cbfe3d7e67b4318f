"""Parts of the fault tests: brokers, and Celery workers and commands in their own processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from kombu.exceptions import OperationalError

from django_visual_search.decoding.pool import close_pool
from django_visual_search.indexing import publishing

from .conftest import missing_service
from .testshop.celery import app

ROOT = Path(__file__).resolve().parent.parent
REDIS = os.environ.get("TEST_BROKER", "redis://127.0.0.1:6379/9")
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


def until(condition, seconds=60.0, what="it"):
    """Wait until the condition returns something true, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen in {seconds} s")


@contextlib.contextmanager
def silent_broker():
    """Yield the port of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


def closed_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Shop:
    """The test shop with FaultyExtractor, and processes that share its database, pictures and settings."""

    def __init__(self, settings, folder):
        self.settings = settings
        self.folder = folder
        self.tag = uuid.uuid4().hex
        self.processes = []
        self.configure()

    def configure(self, *, broker=REDIS, delay=0.0, **options):
        extractor = {
            "BACKEND": "tests.testshop.faulty.FaultyExtractor",
            "OPTIONS": {"folder": str(self.folder), "delay": delay},
        }
        self.settings.VISUAL_SEARCH = {
            "EXTRACTORS": {"default": extractor},
            "QUEUE": f"test-{self.tag}",
            "LEASE_SECONDS": 3,
            "SWEEP_SECONDS": 1,
            **options,
        }
        self.use_broker(broker)

    def use_broker(self, url):
        self.broker = url
        publishing.disconnect()
        app.conf.broker_url = url
        app.set_default()

    @property
    def calls(self):
        """Numbers of the pictures that the extractor was called with, in any process, in order."""
        file = self.folder / "calls"
        return [int(line.split()[1]) for line in file.read_text().splitlines()] if file.exists() else []

    def environment(self, cluster=None):
        """Return a process's environment; ``cluster`` is the folder of another embedded PostgreSQL."""
        entry = connection.settings_dict
        passed = {
            "tag": self.tag,
            "database": {key: entry[key] for key in ("NAME", "HOST", "PORT")} if cluster is None else {},
            "media": settings.MEDIA_ROOT,
            "visual_search": settings.VISUAL_SEARCH,
            "broker": self.broker,
        }
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.worker_settings",
            "TEST_PROCESS": json.dumps(passed),
            "PYTHONUNBUFFERED": "1",
            **({"TEST_POSTGRES": str(cluster)} if cluster else {}),
        }

    def start(self, *arguments, cluster=None, **kwargs):
        """Start a process of this Python; its output goes to the file ``log``."""
        log = self.folder / f"log-{len(self.processes)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.environment(cluster),
                stdin=subprocess.DEVNULL,
                **{"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True, **kwargs},
            )
        process.log = log
        self.processes.append(process)
        return process

    def worker(self, *options, processes=2, beat=False, cluster=None):
        """Start a prefork worker and wait until it takes tasks."""
        if beat:
            options = ("-B", "--schedule", str(self.folder / "schedule"), *options)
        process = self.start(
            *("-m", "celery", "-A", "tests.testshop.celery", "worker", "-l", "INFO", "-c", str(processes)),
            *("-Q", settings.VISUAL_SEARCH["QUEUE"], "-n", f"{uuid.uuid4().hex}@test"),
            *("--without-gossip", "--without-mingle", *options),
            cluster=cluster,
        )
        until(lambda: " ready." in process.log.read_text(), 60, "a worker's start")
        return process

    def command(self, *arguments, cluster=None):
        """Start a management command."""
        return self.start("-m", "django", *arguments, cluster=cluster)

    def run(self, *arguments, seconds=100, cluster=None):
        """Run a management command to its end; return its exit code and output."""
        process = self.command(*arguments, cluster=cluster)
        code = process.wait(seconds)
        return code, process.log.read_text()

    def children(self):
        """Return the processes of this shop, decoders and forks included: id -> command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.tag.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def decoders(self):
        return {pid for pid, command in self.children().items() if "decoding.child" in command}

    def close(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        until(lambda: not self.children(), 10, "the end of every process")


def forget_queue(name, *urls):
    """Leave nothing of a queue in the brokers at ``urls``."""
    for url in urls:
        with (
            contextlib.suppress(OSError, OperationalError),
            app.connection_for_write(url, connect_timeout=1) as used,
        ):
            used.ensure_connection(max_retries=1, timeout=1)
            used.default_channel.queue_delete(name)
            if url.startswith("redis"):
                client = used.default_channel.client
                for key in client.scan_iter(f"*{name}*"):
                    client.delete(key)
                for tag, message in client.hgetall("unacked").items():  # by workers that were killed
                    if name.encode() in message:
                        client.hdel("unacked", tag)
                        client.zrem("unacked_index", tag)


@pytest.fixture
def shop(settings, tmp_path, transactional_db):
    """A Shop with a broker that answers; every process that it starts ends with the test."""
    folder = tmp_path / "faulty"
    folder.mkdir()
    shop = Shop(settings, folder)
    before = app.conf.broker_url
    yield shop
    shop.close()
    close_pool()
    publishing.disconnect()
    forget_queue(settings.VISUAL_SEARCH["QUEUE"], REDIS, RABBITMQ)
    app.conf.broker_url = before


def need(url):
    """Call ``missing_service`` unless a broker listens at the URL."""
    host, port = ("127.0.0.1", 5672) if url.startswith("amqp") else ("127.0.0.1", 6379)
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        missing_service(f"no broker answers at {url}")
