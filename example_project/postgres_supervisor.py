"""Parent of the embedded server: starts it, and stops it when no process uses it any more.

Run by path as ``python -I -S postgres_supervisor.py JSON``; imports nothing of the project, so it stays small.
It returns at once, leaving a background process that ends with the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 30  # seconds that a fast shutdown may take before the server is stopped without its last checkpoint


def postmaster(data: Path) -> int | None:
    """Process id of the server in ``data`` according to its pid file."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def alive(data: Path) -> bool:
    """Whether that process exists (it may be another one if the pid file was left over)."""
    if (pid := postmaster(data)) is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def interrupt(data: Path, with_signal: int = signal.SIGINT) -> None:
    """Ask the server to shut down (SIGINT: fast, with a checkpoint)."""
    if (pid := postmaster(data)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, with_signal)


def _take(path: str) -> int:
    """The supervisor's own lock. Others test it for an instant, hence the retries; ends if another one has it."""
    handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    for _ in range(40):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            time.sleep(0.05)
    raise SystemExit("Another supervisor is at work.")


def _run(command: list[str], identity: dict[str, object]) -> threading.Event:
    """Start the server; the event is set when it has ended."""
    ended = threading.Event()
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **identity)  # type: ignore[call-overload]

    def wait() -> None:
        server.wait()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def _adopt(data: Path) -> threading.Event:
    """Watch over a server whose supervisor was killed: it is not our child, so its pid file tells when it has ended."""
    ended = threading.Event()

    def wait() -> None:
        while alive(data):
            time.sleep(0.2)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def _await_users(users: str, unused: threading.Event) -> None:
    handle = os.open(users, os.O_RDONLY | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)  # kept until this process ends: who comes now waits until the server is down
    unused.set()


def _pass_on(ended: threading.Event, wake: threading.Event) -> None:
    ended.wait()
    wake.set()


def main(users: str, supervised: str, data: str, command: list[str], identity: dict[str, object]) -> None:
    own = _take(supervised)
    if os.fork():
        os._exit(0)
    os.setsid()
    ended = _run(command, identity) if command else _adopt(Path(data))

    wake = threading.Event()
    threading.Thread(target=_await_users, args=(users, wake), daemon=True).start()
    threading.Thread(target=_pass_on, args=(ended, wake), daemon=True).start()
    for name in (signal.SIGHUP, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: wake.set())
    while not wake.wait(3600):
        pass
    for name in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if ended.is_set():
            break
        interrupt(Path(data), name)
        ended.wait(PATIENCE)
    os.close(own)  # before the users' lock, or the next process could take us for the supervisor of its server
    os._exit(0)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
