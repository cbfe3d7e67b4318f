"""The decoders of this process: they read and decode pictures on all cores while others are embedded.

Entry function: ``get_pool``. Each process, a forked one too, has a pool of its own.
"""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import connections

from ..conf import conf
from ..extractors import ExtractorSpec
from ..images import Area
from .decoder import Decoded, Decoder, decode_settings

PATIENCE = 10
"""``DECODE_SECONDS`` that a picture may wait for a processor: nobody waits for it, and workers share their cores."""

# A read of all that a picture may have takes memory for that much first.
FIRST_BYTES = 2**16

TOGETHER = 8
"""Pictures that a decoder is sent at most before it answers: with each answer the processes change places on a core,
and its caches what they hold."""


class DecoderPool:
    """Reads and decodes pictures ahead of their use, ``conf.decoders`` at a time."""

    def __init__(self) -> None:
        self.decoders = [Decoder() for _ in range(conf.decoders)]
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self.decoders:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(len(self.decoders), thread_name_prefix="visual-search-decode")

    def submit(
        self, storage: Any, names: Sequence[str], spec: ExtractorSpec, areas: Sequence[Area | None] | None = None
    ) -> list[Future[list[Decoded]]]:
        """Begin to read and decode pictures of a Django storage, or these areas of them.

        Each future gives the next few of them, in the order of ``names``. It raises ExtractorUnavailable where no
        decoding process can run.
        """
        together = max(1, min(TOGETHER, len(names) // (2 * len(self.decoders))))
        areas = areas or [None] * len(names)
        some = (slice(i, i + together) for i in range(0, len(names), together))
        return [self._threads.submit(self._decode, storage, names[few], areas[few], spec) for few in some]

    def _decode(
        self, storage: Any, names: Sequence[str], areas: Sequence[Area | None], spec: ExtractorSpec
    ) -> list[Decoded]:
        decoder = self._idle.get()
        settings = decode_settings(spec.images, spec.input_size, PATIENCE * conf.DECODE_SECONDS)
        try:
            reads = [functools.partial(_read_file, storage, name, spec.images.max_bytes + 1) for name in names]
            return decoder.decode(reads, settings, areas=areas)
        finally:
            self._idle.put(decoder)
            # A storage may keep its files in the database. No request ends in this thread, so nobody else closes that
            # connection, or notices that the server has.
            connections.close_all()

    def close(self) -> None:
        """End the decoding processes; what waits for one is cancelled."""
        self._threads.shutdown(cancel_futures=True)
        for decoder in self.decoders:
            decoder.stop()


def _read_file(storage: Any, name: str, limit: int) -> bytes:
    """Return a file's bytes, ``limit`` of them at most."""
    with storage.open(name, "rb") as file:
        data: bytes = file.read(min(FIRST_BYTES, limit))
        if len(data) == FIRST_BYTES:
            data += file.read(limit - FIRST_BYTES)
    return data


_pool: DecoderPool | None = None
_lock = threading.Lock()
_inherited_pools: list[DecoderPool] = []


def get_pool() -> DecoderPool:
    """Return this process's pool."""
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


def _leave_pool_to_parent() -> None:
    global _pool, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _pool is not None:
        _inherited_pools.append(_pool)  # kept: its threads are the parent's, so nothing may clean up after them
        _pool = None


os.register_at_fork(after_in_child=_leave_pool_to_parent)
