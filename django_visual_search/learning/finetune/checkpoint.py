"""A training's state on disk after each epoch: written whole or not at all, NumPy arrays and JSON, no pickle.

The learning rate of each step: a warm-up, then half a cosine down to nothing by the last epoch that time allows.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NamedArrays = Mapping[str, Sequence[NDArray[Any]]]


def save_checkpoint(path: Path, facts: dict[str, Any], arrays: NamedArrays) -> None:
    """Replace the checkpoint by these ``facts`` (JSON) and lists of arrays."""
    named = {f"{name}/{i}": array for name, part in arrays.items() for i, array in enumerate(part)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, facts=np.array(json.dumps(facts)), **named)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, list[NDArray[Any]]]] | None:
    """The facts and arrays saved last, or None if there are none. Raises ValueError where the file is damaged."""
    if not path.exists():
        return None
    try:
        # A file of our own, for NumPy leaves its own open where it isn't what it seems.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            arrays: dict[str, list[NDArray[Any]]] = {}
            # savez keeps the order in which the arrays were given.
            for name in stored.files:
                if not isinstance(stored[name], np.ndarray):
                    raise ValueError(f"{name} is no array")
                if name != "facts":
                    arrays.setdefault(name.rpartition("/")[0], []).append(stored[name])
    except Exception as e:  # zipfile, NumPy and JSON each raise their own
        raise ValueError(f"The checkpoint {path} can't be read ({e}): delete it to train from the start.") from e
    return facts, arrays


@contextlib.contextmanager
def alone(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock file: two processes that train from one checkpoint would overwrite each other's.

    Waits ``patience`` seconds, for a stopped run's process takes a moment to end. Raises RuntimeError after that.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise RuntimeError(
                        f"Another process trains in {path.parent}: wait for it, or give this one another folder."
                    ) from None
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


WARM_UP = 0.08
"""Share of all steps in which the learning rate rises to its full height."""

RESERVE_SECONDS = 20.0
"""Kept of the time allowed for the export."""


def factor(progress: float) -> float:
    """The learning rate, as a share of the full one, when ``progress``, 0 to 1, of the training is done (I. Loshchilov
    and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017)."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def advanced(progress: float, steps_left: int) -> float:
    """``progress`` after one of ``steps_left`` steps. By what is left and not by what was planned, so that the rate
    still falls smoothly to nothing when less or more time is found to be there."""
    return progress + (1 - progress) / max(1, steps_left)


def epochs_in_time(wanted: int, done: int, spent: float, epoch: float, allowed: float | None) -> int:
    """How many of the ``wanted`` epochs can be had, ``done`` and at least one among them.

    ``spent``, ``epoch``, ``allowed``: seconds until now, of an epoch, and in all; None for as long as it takes.
    """
    if allowed is None or epoch <= 0:
        return wanted
    more = int((allowed - RESERVE_SECONDS - spent) / epoch)
    return min(wanted, max(done + more, done, 1))
