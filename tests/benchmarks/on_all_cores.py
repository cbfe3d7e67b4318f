"""Runs ``bare_program`` once per core, on a share of the files each."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def on_all_cores(model: Path, size: int, cores: int) -> Iterator[Callable[[list[Path]], None]]:
    """A function that decodes and infers all the files given and returns when the last one is done."""
    command = [sys.executable, "-m", f"{__package__}.bare_program", str(model), str(size)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(cores)]

    def run(paths: list[Path]) -> None:
        for i, process in enumerate(processes):
            process.stdin.write(json.dumps([str(path) for path in paths[i::cores]]) + "\n")
            process.stdin.flush()
        for process in processes:
            if not process.stdout.readline().startswith("seconds "):
                raise RuntimeError("A process with the bare parts ended; its message is on the standard error.")

    try:
        yield run
    finally:
        for process in processes:
            process.kill()
            process.communicate()
