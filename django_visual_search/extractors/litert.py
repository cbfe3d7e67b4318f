"""Run a flatbuffer with LiteRT: loaded at the first call, once per process, safe in threads and after a fork."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import ExtractorUnavailable

INSTALL_LITERT = (
    "LiteRT is not installed here: pip install ai-edge-litert (it belongs to the base install of django-visual-search)."
)


NOTICE = b"INFO: Created TensorFlow Lite XNNPACK delegate"
"""The notice that LiteRT writes to standard error when it first loads a model; no setting turns it off."""

DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}$|(?<![0-9a-f])[0-9a-f]{32}$")
"""At the end of a file's name: the sha256 of its bytes, or the first half of it."""

_noticed: set[int] = set()
"""Ids of the processes that have loaded a model: the notice comes once in each."""


@contextlib.contextmanager
def without_notice() -> Iterator[None]:
    """Keep NOTICE from standard error, which belongs to the running command; other output is written afterwards.

    Only in the main thread, as commands are: while it lasts, other threads' messages wait too.
    """
    if os.getpid() in _noticed or threading.current_thread() is not threading.main_thread():
        yield
        return
    _noticed.add(os.getpid())
    try:
        real = os.dup(2)
    except OSError:  # closed, as in some daemons
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if not line.startswith(NOTICE):
                    os.write(2, line)


def runtime_problem() -> str | None:
    """Return why flatbuffers can't be run here, or None. Imports nothing."""
    return None if find_spec("ai_edge_litert") else INSTALL_LITERT


class Flatbuffer:
    """A model of one picture, uint8 ``(1, s, s, 3)``, to one row of features, float32 ``(1, width)``.

    One picture is run on all ``threads``. Of several, each thread runs its own on an interpreter of its own: measured
    with MobileNetV2-0.35 at 224², one interpreter on 2 threads spends 3.8 ms of processor time a picture where two on
    one thread each spend 3.0. Larger batches in one call cost more: their activations no longer fit the caches.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self._bytes: bytes | None = None
        self.threads = threads or usual_threads()
        # By process id: the threads of an interpreter, and whichever thread holds a lock, don't survive a fork.
        self._interpreters: dict[tuple[int, int], list[_Loaded]] = {}
        self._helpers: dict[int, ThreadPoolExecutor] = {}
        self._locks: dict[int, threading.Lock] = {}

    def __call__(self, images: NDArray[np.uint8] | NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the features of ``images``, uint8 ``(n, s, s, 3)``: float32 ``(n, width)``.

        Raises ExtractorUnavailable if the model can't be loaded.
        """
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            at_once = min(self.threads, len(images))
            interpreters = self._loaded(at_once) if at_once > 1 else self._loaded(1, self.threads)
            features = np.empty((len(images), interpreters[0].width), np.float32)
            turns = iter(range(len(images)))  # the thread that is free takes the next
            helping = [self._helper().submit(_run_turns, one, images, turns, features) for one in interpreters[1:]]
            try:
                _run_turns(interpreters[0], images, turns, features)
            finally:
                wait(helping)
            for helper in helping:
                helper.result()
            return features

    def outputs(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return every output of the model for one picture, uint8 ``(s, s, 3)``, on all threads.

        Raises ExtractorUnavailable if the model can't be loaded.
        """
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            [loaded] = self._loaded(1, self.threads)
            loaded.interpreter.set_tensor(loaded.source, picture[None])
            loaded.interpreter.invoke()
            details = loaded.interpreter.get_output_details()
            return [loaded.interpreter.get_tensor(output["index"])[0] for output in details]

    def _loaded(self, count: int, threads: int = 1) -> list[_Loaded]:
        interpreters = self._interpreters.setdefault((os.getpid(), threads), [])
        while len(interpreters) < count:
            interpreters.append(self._load(threads))
        return interpreters[:count]

    def _helper(self) -> ThreadPoolExecutor:
        pid = os.getpid()
        if pid not in self._helpers:
            self._helpers[pid] = ThreadPoolExecutor(self.threads, thread_name_prefix="visual-search-infer")
        return self._helpers[pid]

    def _content(self) -> bytes:
        """Return the file's bytes, checked against the digest in its name if it has one."""
        if self._bytes is None:
            try:
                data = self.path.read_bytes()
            except OSError as e:
                raise ExtractorUnavailable(f"The model {self.path} can't be read: {e}") from e
            digest = DIGEST.search(self.path.stem)
            if digest and not hashlib.sha256(data).hexdigest().startswith(digest[0]):
                raise ExtractorUnavailable(
                    f"{self.path} was changed since it was checked: delete it to have it made again."
                )
            self._bytes = data
        return self._bytes

    def _load(self, threads: int) -> _Loaded:
        interpreter = load_interpreter(self.path, self._content(), threads, "delete it to have it made again")
        [source], [target, *_] = interpreter.get_input_details(), interpreter.get_output_details()
        return _Loaded(interpreter, source["index"], target["index"], int(target["shape"][-1]))


def usual_threads() -> int:
    """Return how many threads a model runs on: one for each core that this process may use, four at most."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)


def load_interpreter(path: Path, content: bytes, threads: int, advice: str) -> Any:
    """Return LiteRT's interpreter of a file's bytes, ready to run. It is never freed, so keep it.

    Raises ExtractorUnavailable, with ``advice``, for a file that LiteRT can't run.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as e:
        raise ExtractorUnavailable(INSTALL_LITERT) from e
    try:
        with without_notice():
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as e:
        raise ExtractorUnavailable(f"{path} is not a model that LiteRT can run ({e}): {advice}.") from e
    # Never freed: a forked child would free it at its exit too, and crash, as it lacks the threads (seen with 4).
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(interpreter))
    return interpreter


@dataclass(frozen=True)
class _Loaded:
    """An interpreter, and facts that would take a twentieth of a millisecond to ask it for each time."""

    interpreter: Any
    source: int
    target: int
    width: int


def _run_turns(loaded: _Loaded, images: NDArray[Any], turns: Iterable[int], features: NDArray[np.float32]) -> None:
    for i in turns:
        loaded.interpreter.set_tensor(loaded.source, images[i : i + 1])
        loaded.interpreter.invoke()  # without the GIL
        features[i] = loaded.interpreter.get_tensor(loaded.target)[0]


@functools.cache
def shared_flatbuffer(path: Path, threads: int | None = None) -> Flatbuffer:
    """Return this process's one Flatbuffer for that file: extractors that differ only in ``dimensions`` share it."""
    return Flatbuffer(path, threads)
