"""The example shop in processes of its own, each test module with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Example:
    """``manage.py`` of the example with its state in ``folder``."""

    def __init__(self, folder, **environment):
        self.folder = folder
        self.state = folder / "state"
        dropped = {"DATABASE_URL", "CELERY_BROKER_URL", "VISUAL_SEARCH_EXTRACTOR", "DEBUG", "SECRET_KEY"}
        kept = {key: value for key, value in os.environ.items() if key not in dropped}
        self.environment = kept | {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_DIR": str(self.state),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            **environment,
        }

    def start(self, *arguments, **kwargs):
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **kwargs},
        )

    def manage(self, *arguments, code=0):
        """Run a command to its end and return what it wrote."""
        with self.start("-W", "error::ResourceWarning", ROOT / "manage.py", *arguments) as process:
            output, _ = process.communicate(timeout=900)  # a hung command; a busy machine is slow
        assert process.returncode == code, output
        return output

    def python(self, program):
        """Run a program in the shop and return what it printed."""
        return self.manage("shell", "--no-imports", "-c", program).strip()

    @contextlib.contextmanager
    def server(self):
        """A running development server; yields its address."""
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
    """Status and text; ``(missing, "")`` or None where nothing answers."""
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
    """Command lines of server processes that belong to an example's folder."""
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
    removed(shop)


@pytest.fixture(scope="session")
def demo_run():
    """A shop after ``manage.py demo``, started twice at once from nothing: an impatient second terminal does that."""
    shop = make_example()
    with shop.start(ROOT / "manage.py", "demo") as second:
        shop.first = shop.manage("demo")
        output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    shop.left = processes_of(shop.state)
    yield shop
    removed(shop)


@pytest.fixture(scope="module")
def demo_shop(demo_run):
    """A copy of it, for one module to change."""
    shop = make_example()
    wait_for_end(demo_run)
    subprocess.run(["cp", "-a", demo_run.state, shop.state], check=True)
    yield shop
    removed(shop)


def wait_for_end(shop):
    end = time.monotonic() + 20
    while processes_of(shop.state) and time.monotonic() < end:
        time.sleep(0.1)


def removed(shop):
    """Remove its folder, and see that it left nothing running."""
    wait_for_end(shop)
    left = processes_of(shop.state)
    shutil.rmtree(shop.folder)
    assert not left
