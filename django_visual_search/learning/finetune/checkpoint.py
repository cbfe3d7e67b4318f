"""Keep a training's state on disk after each epoch: written whole or not at all, NumPy arrays and JSON, no pickle.

Entry functions: ``save_checkpoint`` and ``load_checkpoint``; ``alone`` lets one process at a time train from it.

Keras' ``BackupAndRestore`` keeps weights and the number of the epoch only, in two files: after a SIGKILL, ``fit`` with
``EarlyStopping`` starts again with its patience, without the best weights so far, and ends with others (Keras 3.15).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
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
    """Replace the checkpoint by ``facts`` (JSON) and lists of arrays."""
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
    """Return the facts and arrays saved last, or None without a file. Raises ValueError where the file is damaged."""
    if not path.exists():
        return None
    try:
        # Opened here, because NumPy leaves a file open that isn't in its format.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            arrays: dict[str, list[NDArray[Any]]] = {}
            # savez keeps the order in which the arrays were given.
            for name in stored.files:
                if not isinstance(stored[name], np.ndarray):
                    raise ValueError(f"{name} isn't an array")
                if name != "facts":
                    arrays.setdefault(name.rpartition("/")[0], []).append(stored[name])
    except Exception as e:  # zipfile, NumPy and JSON each raise their own
        raise ValueError(f"The checkpoint {path} can't be read ({e}): delete it to train from the start.") from e
    return facts, arrays


@contextlib.contextmanager
def alone(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock file: two processes that train from one checkpoint would overwrite each other's.

    Waits ``patience`` seconds, as the process of a stopped run takes a moment to end; then raises RuntimeError.
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
