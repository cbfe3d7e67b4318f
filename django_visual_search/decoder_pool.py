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

# A read of all that a picture may have takes memory for that much first.
FIRST_BYTES = 2**16


class DecoderPool:
    """Reads and decodes pictures ahead of their use, ``conf.decoders`` at a time."""

    def __init__(self) -> None:
        self.idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self.decoders = [Decoder() for _ in range(conf.decoders)]
        for decoder in self.decoders:
            self.idle.put(decoder)
        self.threads = ThreadPoolExecutor(len(self.decoders), thread_name_prefix="visual-search-decode")

    def submit(self, storage: Any, name: str, spec: ExtractorSpec, into: NDArray[np.uint8]) -> Future[None]:
        """Read ``name`` from a Django storage and decode it to ``into``, uint8 ``(s, s, 3)``, ``s = spec.input_size``.

        The future raises what reading and decoding raise.
        """
        return self.threads.submit(self._read_and_decode, storage, name, spec, into)

    def _read_and_decode(self, storage: Any, name: str, spec: ExtractorSpec, into: NDArray[np.uint8]) -> None:
        with storage.open(name, "rb") as file:
            enough = spec.images.max_bytes + 1
            data = file.read(min(FIRST_BYTES, enough))
            if len(data) == FIRST_BYTES:
                data += file.read(enough - FIRST_BYTES)
        decoder = self.idle.get()
        try:
            decoder.decode(data, spec, into)
        finally:
            self.idle.put(decoder)

    def close(self) -> None:
        """End the decoding processes."""
        self.threads.shutdown(cancel_futures=True)
        for decoder in self.decoders:
            decoder.close()


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
