"""A PostgreSQL that starts by itself for whoever needs it and stops with the last process that used it.

Who uses the server is not a list of process ids but a shared ``flock`` that each process holds on one file: the kernel
drops it however the process ends (exit, SIGTERM, SIGKILL, ``os._exit``), so nothing has to be cleaned up after a crash.
A small supervisor (``postgres_supervisor.py``, the parent of the server) waits for the exclusive lock, and gets it once
nobody holds a shared one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    raise RuntimeError(
        "The embedded PostgreSQL needs a POSIX system. Set DATABASE_URL to use a server of yours."
    ) from None

PORT = "5432"
USER = "postgres"

_held: dict[Path, int] = {}
_for_child: dict[Path, int] = {}


def database(data_dir: Path | str, *, name: str = "shop", tune: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Django's ``DATABASES`` entry for database ``name`` on the server in ``data_dir``; both are created if absent.

    ``tune`` adds to or replaces the server's settings (``postgres_cluster.TUNE``); it is read when the server starts:
    the first process decides. The calling process and its forked children are users of the server until they end.
    Raises RuntimeError, with the end of the server's log, if the server can't start.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise ValueError(f"Not a plain database name: {name!r}.")
    # Not resolved: where root's server can't live in this folder, the last part is a link to a folder where it can.
    data_dir = Path(data_dir).absolute()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    _use(data_dir)
    host = running(data_dir)
    if host is None or not (data_dir / f"database-{name}").exists():
        from . import postgres_cluster  # only who starts the server pays for this import

        with locked(data_dir.with_name(f"{data_dir.name}.starting")):
            host = running(data_dir) or postgres_cluster.start(data_dir, dict(tune or {}))
            postgres_cluster.create_database(data_dir, host, name)
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": USER, "HOST": host, "PORT": PORT}


def running(data_dir: Path) -> str | None:
    """The folder of the server's socket, if the server answers there and its supervisor lives."""
    try:
        lines = (data_dir / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise RuntimeError(
            f"The database in {data_dir} belongs to another user: run as that user, remove it, or set EXAMPLE_DIR."
        ) from None
    if len(lines) < 8 or lines[7].strip() != "ready" or not supervised(data_dir):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(f"{lines[4]}/.s.PGSQL.{PORT}")
        except OSError:
            return None
    return lines[4]


def supervised(data_dir: Path) -> bool:
    """Whether a supervisor lives: it holds the exclusive lock on its own file."""
    try:
        # Shared, so that two processes that look at the same moment don't take each other for the supervisor
        with locked(data_dir.with_name(f"{data_dir.name}.supervised"), fcntl.LOCK_SH | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


@contextlib.contextmanager
def locked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    handle = _open(path)
    try:
        fcntl.flock(handle, operation)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _users(data_dir: Path) -> Path:
    return data_dir.with_name(f"{data_dir.name}.users")


def _use(data_dir: Path) -> None:
    """Hold the shared lock; waits while the server is being stopped for others."""
    held, path = _held.get(data_dir), _users(data_dir)
    if held is not None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.sameopenfile(held, path_handle := _open(path)):
                os.close(path_handle)
                return
            os.close(path_handle)
        os.close(held)  # the folder was removed and made again meanwhile
    handle = _open(path)
    fcntl.flock(handle, fcntl.LOCK_SH)
    _held[data_dir] = handle


def _before_fork() -> None:
    """Take the child's lock before there is a child: its parent may end at once, and would then be the last user."""
    for data_dir in _held:
        handle = _open(_users(data_dir))
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # the server is being stopped at this moment
            os.close(handle)
        else:
            _for_child[data_dir] = handle


def _after_fork_in_parent() -> None:
    while _for_child:
        os.close(_for_child.popitem()[1])


def _after_fork_in_child() -> None:
    """The inherited locks are the parent's too, who changes them at its end."""
    for inherited in _held.values():
        os.close(inherited)
    _held.clear()
    _held.update(_for_child)
    _for_child.clear()


def _leave() -> None:
    """At a regular exit the last process waits until the server is gone, so that nothing runs after it."""
    while _held:
        data_dir, handle = _held.popitem()
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while others use the server
            from .postgres_supervisor import interrupt

            interrupt(data_dir / "data")
            until = time.monotonic() + 10
            while supervised(data_dir) and time.monotonic() < until:
                time.sleep(0.01)
        os.close(handle)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_leave)
