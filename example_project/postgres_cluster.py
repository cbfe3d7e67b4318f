"""How the embedded server is made, tuned and started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .embedded_postgres import PORT, USER, running, supervised
from .postgres_places import prepare, server_user, socket_dir
from .postgres_supervisor import alive, postmaster

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
"""Settings of the server for a small machine with an SSD (the defaults are those of a far smaller one)."""
START_SECONDS = 60


def start(data_dir: Path, tune: dict[str, str]) -> str:
    """Make the cluster if absent, start it and return its socket folder. To be called with the starting lock held."""
    user = server_user(data_dir)
    binaries = prepare(data_dir, user)
    data, log = data_dir / "data", data_dir / "log"
    if not data.exists():
        _initdb(binaries, data, user, sync=tune.get("fsync") != "off")
    _drop_foreign_pid_file(data)
    # The server answers, only its supervisor was killed: no command means that it is to be adopted.
    adopt = alive(data)
    settings = {"dynamic_shared_memory_type": _shared_memory()} | TUNE | tune
    command = [
        str(binaries / "postgres"),
        "-D",
        str(data.resolve()),
        "-h",
        "",
        "-p",
        PORT,
        "-k",
        socket_dir(data_dir, user),
    ]
    command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    until = time.monotonic() + START_SECONDS
    give_up = time.monotonic() + 10  # processes of a killed server may need a moment before another can start
    while time.monotonic() < until:
        if (host := running(data_dir)) is not None:
            return host
        if not supervised(data_dir):
            if time.monotonic() > give_up:
                break
            _supervise(data_dir, [] if adopt else command, user, log)
        time.sleep(0.02)
    raise RuntimeError(f"The embedded PostgreSQL in {data_dir} doesn't start. The end of its log:\n{_tail(log)}")


def create_database(data_dir: Path, host: str, name: str) -> None:
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


def _initdb(binaries: Path, data: Path, user: dict[str, Any], *, sync: bool) -> None:
    for unfinished in data.parent.glob("data.*.new"):
        shutil.rmtree(unfinished, ignore_errors=True)
    new = data.with_name(f"data.{os.getpid()}.new")
    command = [str(binaries / "initdb"), "-D", str(new.parent.resolve() / new.name), "-U", USER, "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--no-instructions", *([] if sync else ["--no-sync"])]
    done = subprocess.run(command, cwd="/", env=_environment(), capture_output=True, text=True, check=False, **user)
    if done.returncode:
        raise RuntimeError(f"initdb failed in {data.parent}:\n{done.stdout}{done.stderr}")
    new.rename(data)  # whoever is killed in the middle leaves no half-made cluster


def _supervise(data_dir: Path, command: list[str], user: dict[str, Any], log: Path) -> None:
    task = {
        "users": str(data_dir.with_name(f"{data_dir.name}.users")),
        "supervised": str(data_dir.with_name(f"{data_dir.name}.supervised")),
        "data": str(data_dir / "data"),
        "command": command,
        "identity": user,
    }
    script = Path(__file__).with_name("postgres_supervisor.py")
    with log.open("ab") as output:
        subprocess.run(
            [sys.executable, "-I", "-S", str(script), json.dumps(task)],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )


def _environment() -> dict[str, str]:
    """Ours without what would change the server: its variables, and locales that this machine may lack."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _shared_memory() -> str:
    """Containers often have 64 MB of /dev/shm, where a parallel build of an HNSW index fails; files work everywhere."""
    try:
        info = os.statvfs("/dev/shm")
    except OSError:
        return "posix" if sys.platform == "darwin" else "mmap"
    return "posix" if info.f_bavail * info.f_frsize >= 1 << 30 else "mmap"


def _drop_foreign_pid_file(data: Path) -> None:
    """After a container's restart the id in a left-over pid file may be that of some other process."""
    pid = postmaster(data)
    with contextlib.suppress(OSError):
        if pid is not None and Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
            (data / "postmaster.pid").unlink(missing_ok=True)


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    return "(no log)"
