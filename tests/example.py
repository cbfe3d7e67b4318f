"""The example shop in processes of its own, with a folder for each test module.

``example`` is an empty shop, ``demo_shop`` one after ``manage.py demo``. ``Example.manage`` runs a command to its end,
``Example.call`` does it without a process of its own, ``Example.python`` runs a program in the shop, ``Example.server``
its development server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest

from .startup import STARTUP

ROOT = Path(__file__).resolve().parent.parent
SHELL = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    said, failed = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            exec(compile(json.loads(line), "<program>", "exec"), {})
        except BaseException:
            failed = traceback.format_exc()
    print(json.dumps([said.getvalue(), failed]), flush=True)
"""
"""Runs programs, each from a line of JSON, and answers with what it printed and its traceback."""
CALL = """
import sys
from django.core.management import CommandError, call_command
code = 0
try:
    call_command(*%s, stdout=sys.stdout, stderr=sys.stdout)
except CommandError as e:
    print(f"CommandError: {e}")
    code = e.returncode
print(code)
"""


class Example:
    """The example shop with its state in ``folder``."""

    shell = None

    def __init__(self, folder, **environment):
        self.folder = folder
        self.state = folder / "state"
        dropped = {"DATABASE_URL", "CELERY_BROKER_URL", "VISUAL_SEARCH_EXTRACTOR", "DEBUG", "SECRET_KEY"}
        kept = {key: value for key, value in os.environ.items() if key not in dropped}
        self.environment = kept | {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_DIR": str(self.state),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": f"{STARTUP}:{ROOT}",
            **environment,
        }

    def start(self, *arguments, **kwargs):
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **kwargs},
        )

    def manage(self, *arguments, code=0):
        """Run a command to its end and return what it wrote."""
        with self.start("-W", "error::ResourceWarning", ROOT / "manage.py", *arguments) as process:
            output, _ = process.communicate(timeout=900)  # a hung command; a busy machine is slow
        assert process.returncode == code, output
        return output

    def python(self, program):
        """Run a program in the shop and return what it printed; one process runs all of them."""
        if self.shell and self.shell.environment != self.environment:
            self.close()
        if not self.shell:
            shell = ("-W", "error::ResourceWarning", ROOT / "manage.py", "shell", "--no-imports", "-c", SHELL)
            with (self.folder / "shell.log").open("a") as log:
                self.shell = self.start(*shell, stdin=subprocess.PIPE, stderr=log)
            self.shell.environment = self.environment.copy()
        self.shell.stdin.write(json.dumps(program) + "\n")
        self.shell.stdin.flush()
        answer = self.shell.stdout.readline()
        assert answer, (self.folder / "shell.log").read_text()
        said, failed = json.loads(answer)
        assert not failed, failed
        return said.strip()

    def migrate(self):
        self.call("migrate", "--verbosity=0")

    def call(self, *arguments, code=0):
        """Run a command as ``manage`` does, but in the process of ``python``."""
        output, _, ended = self.python(CALL % list(map(str, arguments))).rpartition("\n")
        assert int(ended) == code, output
        return output

    def close(self):
        """End the process of ``python``, which keeps the shop's database running."""
        if self.shell:
            self.shell.communicate(timeout=60)
            assert self.shell.returncode == 0, (self.folder / "shell.log").read_text()
            self.shell = None

    @contextlib.contextmanager
    def worker(self, *options):
        """Run a Celery worker for the queue of ``tests.strict_example``; yield its log."""
        log = self.folder / "worker.log"
        worker = ("-m", "celery", "-A", "example_project", "worker", "-Q", self.folder.name, "-l", "INFO")
        with log.open("w") as output:
            process = self.start(*worker, *options, stdout=output, start_new_session=True)
        try:
            yield log
        finally:
            process.terminate()
            process.wait(60)

    @contextlib.contextmanager
    def server(self):
        """Run the development server; yield its URL."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = self.folder / "server.log"
        with log.open("w") as output:
            process = self.start(
                ROOT / "manage.py", "runserver", str(port), "--noreload", stdout=output, start_new_session=True
            )
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 300
            while get(f"{address}/", missing=None) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def get(url, data=None, headers=None, missing=0):
    """Return status and text; ``(missing, "")``, or None if ``missing`` is None, where nothing answers."""
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()
    except OSError:
        return missing if missing is None else (missing, "")


def processes_of(state):
    """Return the command lines of PostgreSQL's processes that belong to an example's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = entry.read_bytes().decode(errors="replace").replace("\0", " ")
            if str(state) in command and ("bin/postgres " in command or "embedded_postgres.py" in command):
                found.append(command)
    return found


def make_example(**environment):
    # Not tmp_path: pytest's own folders are closed to the user as whom root runs PostgreSQL
    folder = Path(tempfile.mkdtemp(prefix="example-"))
    folder.chmod(0o755)
    return Example(folder, **environment)


@pytest.fixture(scope="module")
def example():
    shop = make_example()
    yield shop
    remove(shop)


@pytest.fixture(scope="module")
def demo_shop():
    """A copy of the shop after ``manage.py demo``, for one module to change.

    ``drawn``: what the demo printed (``output``), what a second one printed that was started at the same time
    (``again``), and what they left running (``left``).
    """
    shop = make_example()
    with drawn_demo() as drawn:
        subprocess.run(["cp", "-a", drawn.state, drawn.folder / "demo-results.png", shop.folder], check=True)
        shop.drawn = json.loads((drawn.folder / REPORT).read_text())
    yield shop
    remove(shop)


REPORT = "demo.json"


@contextlib.contextmanager
def drawn_demo():
    """Yield the shop after ``manage.py demo``, locked; the demo runs once for each state of the code."""
    root = Path(tempfile.gettempdir(), f"visual-search-demo-{os.getuid()}")
    root.mkdir(exist_ok=True)
    root.chmod(0o755)  # see make_example
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shop = Example(root / demo_digest())
        if not (shop.folder / REPORT).exists():
            for old in root.glob("*/"):
                shutil.rmtree(old)
            shop.folder.mkdir()
            (shop.folder / REPORT).write_text(json.dumps(draw_demo(shop)))
        yield shop


def demo_digest():
    """Return the digest of everything that makes the demo."""
    found = hashlib.sha256(repr([sys.version, *map(version, ("Django", "numpy", "Pillow", "psycopg"))]).encode())
    for package in ("example_project", "django_visual_search"):
        for file in sorted((ROOT / package).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return found.hexdigest()[:16]


THUMBNAILS = """
from django.test import Client
for page in ("/", "/?category=teapots"):
    assert Client(headers={"host": "localhost"}).get(page).status_code == 200
"""
"""Makes once the thumbnails of pages that most modules look at; each would make them in its copy."""


def draw_demo(shop):
    """Start the demo twice at once from nothing, as an impatient second terminal does: one waits for the other."""
    with shop.start(ROOT / "manage.py", "demo") as other:
        outputs = [shop.manage("demo"), other.communicate(timeout=120)[0]]
    assert other.returncode == 0, outputs[1]
    again, output = sorted(outputs, key=lambda said: "Drawing 336 of" in said)
    left = processes_of(shop.state)
    shop.python(THUMBNAILS)
    shop.close()
    wait_for_end(shop)
    return {"output": output, "again": again, "left": left}


def wait_for_end(shop):
    end = time.monotonic() + 20
    while processes_of(shop.state) and time.monotonic() < end:
        time.sleep(0.05)


def remove(shop):
    """End the shop and remove its folder; assert that it left nothing running."""
    shop.close()
    wait_for_end(shop)
    left = processes_of(shop.state)
    shutil.rmtree(shop.folder)
    assert not left
