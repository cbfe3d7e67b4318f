"""This process's decoders: pictures are read and decoded on all cores while others are embedded."""

from __future__ import annotations

import atexit
import os
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conf import conf
from .decoding import Decoder
from .extractors import ExtractorSpec


class DecoderPool:
    """Reads and decodes pictures ahead of their use, ``conf.decoders`` at a time."""

    def __init__(self) -> None:
        self.idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self.decoders = [Decoder() for _ in range(conf.decoders)]
        for decoder in self.decoders:
            self.idle.put(decoder)
        self.threads = ThreadPoolExecutor(len(self.decoders), thread_name_prefix="visual-search-decode")

    def submit(self, storage: Any, name: str, spec: ExtractorSpec) -> Future[NDArray[np.uint8]]:
        """Read ``name`` from a Django storage and decode it; the future raises what reading and decoding raise."""
        return self.threads.submit(self._read_and_decode, storage, name, spec)

    def _read_and_decode(self, storage: Any, name: str, spec: ExtractorSpec) -> NDArray[np.uint8]:
        with storage.open(name, "rb") as file:
            data = file.read(spec.images.max_bytes + 1)
        decoder = self.idle.get()
        try:
            return decoder.decode(data, spec)
        finally:
            self.idle.put(decoder)

    def close(self) -> None:
        """End the decoding processes."""
        self.threads.shutdown(cancel_futures=True)
        for decoder in self.decoders:
            decoder.stop()


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
