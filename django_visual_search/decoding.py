"""Decodes pictures in processes of their own, so that no picture can take a worker down, and on all cores while it embeds."""

from __future__ import annotations

import atexit
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conf import conf
from .extractors import ExtractorSpec
from .images import ImageRefused


class DecoderLost(RuntimeError):
    """The decoding process ended or was ended on this picture; ``code`` is ``decode_time`` or ``decode_crash``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decoder:
    """One decoding process, started on first use and again after it was lost."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, spec: ExtractorSpec) -> NDArray[np.uint8]:
        """uint8 ``(s, s, 3)`` with ``s = spec.input_size``. Raises ImageRefused and DecoderLost."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        process = self.process
        late = threading.Event()
        timer = threading.Timer(conf.DECODE_SECONDS, lambda: (late.set(), process.kill()))
        timer.start()
        try:
            status, answer = self._ask(process, pickle.dumps((data, spec.images, spec.input_size)))
        except OSError:
            self.stop()
            if late.is_set():
                message = f"Decoding this picture took more than {conf.DECODE_SECONDS} s and was stopped."
                raise DecoderLost("decode_time", message) from None
            message = "The process that decoded this picture ended: the file crashes the decoder or takes too much memory."
            raise DecoderLost("decode_crash", message) from None
        finally:
            timer.cancel()
        if status == b"-":
            code, _, message = answer.decode().partition("\n")
            raise ImageRefused(code, message)
        return np.frombuffer(answer, np.uint8).reshape(spec.input_size, spec.input_size, 3)

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    @staticmethod
    def _ask(process: subprocess.Popen[bytes], request: bytes) -> tuple[bytes, bytes]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(struct.pack(">Q", len(request)) + request)
        process.stdin.flush()
        header = process.stdout.read(9)
        if len(header) < 9:
            raise OSError
        status, length = header[:1], struct.unpack(">Q", header[1:])[0]
        answer = process.stdout.read(length)
        if len(answer) < length:
            raise OSError
        return status, answer

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        package = Path(__file__).parent
        path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return subprocess.Popen(
            [sys.executable, str(package / "_decoder.py"), str(conf.DECODE_MEMORY_MB)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )


class DecoderPool:
    """Reads and decodes pictures ahead of their use, ``conf.decoders`` at a time."""

    def __init__(self) -> None:
        self.pid = os.getpid()
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


def get_pool() -> DecoderPool:
    """This process's pool; a forked child gets one of its own."""
    global _pool
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = DecoderPool()
        return _pool


@atexit.register
def close_pool() -> None:
    """End this process's decoding processes, if it has any."""
    global _pool
    if _pool is not None and _pool.pid == os.getpid():
        _pool.close()
    _pool = None
