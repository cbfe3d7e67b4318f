"""This process's decoders: pictures are read and decoded on all cores while others are embedded."""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...conf import conf
from ...extractors import ExtractorSpec
from .decoder import Decoder

# A read of all that a picture may have takes memory for that much first.
FIRST_BYTES = 2**16

TOGETHER = 8
"""Pictures that a decoder is sent at most before it answers."""


class DecoderPool:
    """Reads and decodes pictures ahead of their use, ``conf.decoders`` at a time."""

    def __init__(self) -> None:
        self.idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self.decoders = [Decoder() for _ in range(conf.decoders)]
        for decoder in self.decoders:
            self.idle.put(decoder)
        self.threads = ThreadPoolExecutor(len(self.decoders), thread_name_prefix="visual-search-decode")

    def submit(
        self, storage: Any, names: list[str], spec: ExtractorSpec, into: NDArray[np.uint8]
    ) -> list[Future[None]]:
        """Read ``names`` from a Django storage and decode them to ``into``, uint8 ``(n, s, s, 3)``, ``s`` being
        ``spec.input_size`` and ``n`` at least as many as the names.

        A future for each name; it raises what reading and decoding raise.
        """
        futures: list[Future[None]] = [Future() for _ in names]
        together = max(1, min(TOGETHER, len(names) // (2 * len(self.decoders))))
        for i in range(0, len(names), together):
            some = slice(i, min(i + together, len(names)))
            work = self.threads.submit(self._read_and_decode, storage, names[some], spec, into[some], futures[some])
            work.add_done_callback(functools.partial(_cancel_too, futures[some]))
        return futures

    def _read_and_decode(
        self, storage: Any, names: list[str], spec: ExtractorSpec, into: NDArray[np.uint8], futures: list[Future[None]]
    ) -> None:
        wanted = [future for future in futures if future.set_running_or_notify_cancel()]
        if not wanted:
            return
        enough = spec.images.max_bytes + 1
        reads: list[Callable[[], bytes]] = [functools.partial(_read, storage, name, enough) for name in names]
        failures: Sequence[BaseException | None]
        try:
            decoder = self.idle.get()
            try:
                failures = decoder.decode(reads, spec, into)
            finally:
                self.idle.put(decoder)
        except BaseException as e:
            failures = [e] * len(futures)
        for future, failure in zip(futures, failures, strict=True):
            if not future.cancelled():
                future.set_result(None) if failure is None else future.set_exception(failure)

    def close(self) -> None:
        """End the decoding processes."""
        self.threads.shutdown(cancel_futures=True)
        for decoder in self.decoders:
            decoder.close()


def _read(storage: Any, name: str, enough: int) -> bytes:
    with storage.open(name, "rb") as file:
        data: bytes = file.read(min(FIRST_BYTES, enough))
        if len(data) == FIRST_BYTES:
            data += file.read(enough - FIRST_BYTES)
    return data


def _cancel_too(futures: list[Future[None]], work: Future[None]) -> None:
    if work.cancelled():
        for future in futures:
            future.cancel() and future.set_running_or_notify_cancel()  # wakes who waits for all of them


_pool: DecoderPool | None = None
_lock = threading.Lock()
_inherited: list[DecoderPool] = []


def get_pool() -> DecoderPool:
    """This process's pool; a forked child gets one of its own."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = DecoderPool()
        return _pool


@atexit.register
def close_pool(**kwargs: Any) -> None:
    """End this process's decoding processes, if it has any. Also a receiver of Celery's ``worker_process_shutdown``."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _start_anew() -> None:
    global _pool, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _pool is not None:
        for decoder in _pool.decoders:
            decoder.disown()
        _inherited.append(_pool)  # kept: its threads and processes are the parent's, so nothing may clean up after them
        _pool = None


os.register_at_fork(after_in_child=_start_anew)
