"""Starts the processes that decode pictures, and the memory that they share with this one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ...conf import conf
from ...extractors import ExtractorUnavailable

# glibc gives freed memory back to the system and gets it again for the next picture: 139 page faults each, a seventh of
# the time that a picture of 348 pixels takes.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": f"{2**26}", "MALLOC_TOP_PAD_": f"{2**24}", "MALLOC_MMAP_THRESHOLD_": f"{2**25}"}

PIPE_BYTES = 2**20


def start(shared: int) -> subprocess.Popen[bytes]:
    """A process that is ready to decode to the memory of that file descriptor. Raises ExtractorUnavailable."""
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("child.py")), str(conf.DECODE_MEMORY_MB), str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**MALLOC, **os.environ, "PYTHONPATH": path},
        pass_fds=[shared],
        process_group=0,  # Ctrl-C is for the parent
    )
    assert process.stdin is not None
    assert process.stdout is not None
    _widen(process.stdin.fileno())
    if process.stdout.read(1) != b".":
        process.kill()
        process.communicate()
        raise ExtractorUnavailable(
            f"The process that decodes pictures does not start (exit status {process.returncode}; its message is "
            f"on the standard error). Is VISUAL_SEARCH['DECODE_MEMORY_MB'] = {conf.DECODE_MEMORY_MB} too little?"
        )
    return process


def _widen(pipe: int) -> None:
    """Room for several pictures, so that they can be sent while one is decoded; slower, not wrong, without it."""
    with contextlib.suppress(AttributeError, OSError):  # not Linux, or more than a user may have
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def memory() -> Any:
    """A file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("visual-search"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
