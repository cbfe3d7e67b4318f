"""The embedded server with real processes: started together, killed, forked. Nothing may outlive them."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from example_project.database_url import database_from_url

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys, time
from example_project.embedded_postgres import database
entry = database(sys.argv[1], tune={"shared_buffers": "16MB", "fsync": "off"})
import psycopg
with psycopg.connect(host=entry["HOST"], port=entry["PORT"], user=entry["USER"], dbname=entry["NAME"]) as connection:
    print("answer", connection.execute("SELECT 6 * 7").fetchone()[0], entry["HOST"], flush=True)
"""
WAIT = PROGRAM + "sys.stdin.read()\n"


def open_folder():
    # Not tmp_path: pytest's own folders are closed to the user as whom root runs the server
    path = Path(tempfile.mkdtemp(prefix="embedded-"))
    path.chmod(0o755)
    return path


@pytest.fixture
def folder():
    path = open_folder()
    yield path
    link = path / "postgres"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster():
    """A cluster that an earlier process made."""
    path = open_folder()
    finish(start(path / "postgres", PROGRAM))
    yield path / "postgres"
    shutil.rmtree(path)


@pytest.fixture
def data_dir(folder, cluster):
    """A copy of it: ``initdb`` takes most of the time of a test."""
    subprocess.run(["cp", "-a", cluster, folder], check=True)
    return folder / "postgres"


def start(data_dir, program=WAIT, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


def ready(process):
    line = process.stdout.readline()
    assert line.startswith("answer 42 "), line + process.stdout.read()
    return line.split()[2]


def finish(process):
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def processes(data_dir):
    """Ids of the server's and the watcher's processes for ``data_dir``."""
    return servers(data_dir) + watchers(data_dir)


def servers(data_dir):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, folder = (process / "comm").read_text().strip(), os.readlink(process / "cwd")
            if name == "postgres" and folder == str(data_dir.resolve() / "data"):
                found.append(int(process.name))
    return found


def watchers(data_dir):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text().split("\0")
            if any(part.endswith("embedded_postgres.py") for part in command) and str(data_dir) in command[-2]:
                found.append(int(process.name))
    return found


def nothing_left(data_dir, seconds=20):
    end = time.monotonic() + seconds
    while processes(data_dir) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes(data_dir) == []
    assert not (data_dir / "data" / "postmaster.pid").exists()


def test_started_by_several_at_once_and_gone_after_the_last(folder):
    data_dir = folder / "postgres"
    together = [start(data_dir) for _ in range(4)]
    assert len({ready(process) for process in together}) == 1
    for process in together[:-1]:
        finish(process)
    assert processes(data_dir), "the server stopped under a process that still uses it"
    late = start(data_dir)
    ready(late)
    finish(late)
    finish(together[-1])
    # A regular exit waits for the server, so there is nothing to wait for here
    assert servers(data_dir) == []
    nothing_left(data_dir)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_killed_user_leaves_nothing(data_dir, with_signal):
    with start(data_dir) as process:
        ready(process)
        process.send_signal(with_signal)
    nothing_left(data_dir)


def test_forked_child_keeps_the_server(data_dir):
    fork = PROGRAM + (
        "if os.fork():\n    sys.exit()\n"
        "sys.stdin.read()\n"
        "with psycopg.connect(host=entry['HOST'], port=entry['PORT'], user='postgres', dbname='shop') as connection:\n"
        "    print('child', connection.execute('SELECT 1').fetchone()[0], flush=True)\n"
        "os._exit(0)\n"
    )
    parent = start(data_dir, fork)
    ready(parent)
    parent.wait(30)
    time.sleep(0.5)
    output, _ = parent.communicate(timeout=30)
    assert output == "child 1\n"
    nothing_left(data_dir)


def test_server_killed_is_started_again(data_dir):
    with start(data_dir) as first:
        ready(first)
        os.kill(int((data_dir / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        second = start(data_dir)
        ready(second)
        finish(second)
        first.stdin.close()
    nothing_left(data_dir)


def test_watcher_killed_is_replaced_by_the_next_user(data_dir):
    with start(data_dir) as first:
        ready(first)
        server = int((data_dir / "data/postmaster.pid").read_text().split()[0])
        for pid in watchers(data_dir):
            os.kill(pid, signal.SIGKILL)
        second = start(data_dir)
        ready(second)
        assert int((data_dir / "data/postmaster.pid").read_text().split()[0]) == server, "it should be adopted"
        finish(second)
        first.stdin.close()
    nothing_left(data_dir)


@pytest.mark.parametrize("noticed", ["before", "after"])
def test_folder_removed_and_made_again_under_a_user(folder, data_dir, noticed):
    """As after ``rm -rf .example``: the first server's user leaves, and the second server stays for its own.

    The first server notices within a minute, before or after the second is started.
    """
    with start(data_dir) as first:
        ready(first)
        removed = int((data_dir / "data/postmaster.pid").read_text().split()[0])
        (watcher,) = watchers(data_dir)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if noticed == "before":
            os.kill(removed, signal.SIGQUIT)
            gone(removed)
        with start(data_dir) as second:
            ready(second)
            if noticed == "after":
                os.kill(removed, signal.SIGQUIT)
                gone(removed)
            finish(start(data_dir, PROGRAM))
            first.stdin.close()
            gone(watcher)
            assert servers(data_dir)
            second.stdin.close()
    nothing_left(data_dir)


def gone(pid, seconds=20):
    end = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_left_over_pid_file_of_another_process(data_dir):
    finish(start(data_dir, PROGRAM))
    left_over = f"{os.getpid()}\n{data_dir}/data\n1700000000\n5432\n{data_dir}\n\n  123 456\nready   \n"
    (data_dir / "data" / "postmaster.pid").write_text(left_over)
    finish(start(data_dir, PROGRAM))
    nothing_left(data_dir)


def test_interrupted_initdb_is_repeated(folder):
    data_dir = folder / "postgres"
    (data_dir / "data.1.new").mkdir(parents=True)
    (data_dir / "data.1.new" / "PG_VERSION").write_text("18\n")
    finish(start(data_dir, PROGRAM))
    assert not (data_dir / "data.1.new").exists()
    nothing_left(data_dir)


def test_path_too_long_or_too_odd_for_a_socket(folder):
    data_dir = folder / ("long" * 25) / "a $HOME \"b\", 'c'" / "postgres"
    data_dir.parent.mkdir(parents=True)
    process = start(data_dir)
    host = ready(process)
    finish(process)
    assert len(host) < 60
    nothing_left(data_dir)
    shutil.rmtree(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_folder_closed_to_the_servers_user(folder):
    folder.chmod(0o700)
    data_dir = folder / "postgres"
    finish(start(data_dir, PROGRAM))
    assert data_dir.is_symlink()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "permissions of others' folders must not be widened"
    assert stat.S_IMODE(data_dir.resolve().stat().st_mode) == 0o700
    finish(start(data_dir, PROGRAM))
    nothing_left(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_an_ordinary_user(folder):
    import pwd

    nobody = pwd.getpwnam("nobody")
    python = shutil.which("python3", path="/usr/bin")
    probe = [python or "", "-c", "import psycopg, sys; sys.exit(sys.version_info < (3, 11))"]
    packages = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
    environment = {"PYTHONPATH": packages, "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    if not python or subprocess.run(probe, env=environment, cwd=ROOT, check=False, **identity).returncode:
        pytest.skip("'nobody' can run no Python with these packages")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    data_dir = folder / "postgres"
    command = [python, "-W", "error", "-c", PROGRAM, str(data_dir)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, **identity)
    assert done.stdout.startswith("answer 42"), done.stderr
    assert data_dir.stat().st_uid == nobody.pw_uid
    nothing_left(data_dir)


def test_setting_that_the_server_refuses_is_shown(folder):
    program = PROGRAM.replace('"fsync": "off"', '"fsync": "perhaps"')
    output, _ = start(folder / "postgres", program).communicate(timeout=60)
    assert "doesn't start" in output
    assert 'parameter "fsync" requires a Boolean value' in output
    nothing_left(folder / "postgres")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@db:5433/shop", {"USER": "u", "PASSWORD": "p", "HOST": "db", "PORT": "5433", "NAME": "shop"}),
        ("postgresql:///shop", {"USER": "", "PASSWORD": "", "HOST": "", "PORT": "", "NAME": "shop"}),
        ("postgres://a%40b:p%2F%3A%23@h/n%20m", {"USER": "a@b", "PASSWORD": "p/:#", "HOST": "h", "NAME": "n m"}),
        ("postgres://u@%2FVar%2Frun:5433/shop", {"HOST": "/Var/run", "PORT": "5433"}),
        ("postgres://u@/shop?host=/var/run&port=5434", {"HOST": "/var/run", "PORT": "5434"}),
        ("postgres://u@h/shop?sslmode=require", {"OPTIONS": {"sslmode": "require"}}),
        ("postgres://[::1]:5432/shop", {"HOST": "::1", "PORT": "5432"}),
    ],
)
def test_database_url(url, expected):
    entry = database_from_url(url)
    assert expected.items() <= entry.items()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/n", "", "postgres://u:secret@h/", "postgres://u:se/cret@h/n"])
def test_database_url_refused_without_the_password(url):
    with pytest.raises(ValueError, match="DATABASE_URL") as e:
        database_from_url(url)
    assert "cret" not in str(e.value)
