"""Starts the processes that decode pictures, and the memory that they share with this one.

Decodes a picture in a process of its own, so that no picture can take a worker down.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...conf import conf
from ...extractors import ExtractorSpec, ExtractorUnavailable
from ...images import ImageRefused

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


class DecoderLost(RuntimeError):  # noqa: N818 (as in "the connection was lost")
    """The decoding process ended on this picture; ``code`` is ``decode_time`` or ``decode_crash``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decoder:
    """One decoding process, started on first use and again after it was lost.

    Pixels come back through memory that both share: a pipe takes 64 kB at a time, with a change of process for each.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.shared: Any = None
        self.pixels: Any = b""
        self.settings: tuple[Any, bytes] = (None, b"")

    def decode(
        self, reads: list[Callable[[], bytes]], spec: ExtractorSpec, into: NDArray[np.uint8]
    ) -> list[Exception | None]:
        """Read pictures and decode them to ``into``, uint8 ``(n, s, s, 3)`` with ``s = spec.input_size``.

        For each None, or why its pixels are not there: what ``read`` raised, ImageRefused or DecoderLost. Raises
        ExtractorUnavailable where no decoding process can run.
        """
        try:
            return self._together(reads, spec, into)
        except DecoderLost as e:
            if len(reads) == 1:
                return [e]
        # Which of them it was is seen when each goes alone.
        return [self.decode([read], spec, into[i : i + 1])[0] for i, read in enumerate(reads)]

    def _together(
        self, reads: list[Callable[[], bytes]], spec: ExtractorSpec, into: NDArray[np.uint8]
    ) -> list[Exception | None]:
        if self.process is None or self.process.poll() is not None:
            self.stop()
            if self.shared is None:
                self.shared = memory()
            self.process = start(self.shared.fileno())
        self._make_room(into.nbytes)
        seconds = conf.DECODE_SECONDS
        settings = self._settings(spec.images, spec.input_size, seconds)
        try:
            refusals = self._ask(self.process, settings, reads)
        except OSError:
            if self.stop() == -signal.SIGALRM:
                raise DecoderLost(
                    "decode_time", f"Decoding this picture took more than {seconds} s and was stopped."
                ) from None
            message = (
                "The process that decoded this picture ended: the file crashes the decoder or takes too much memory."
            )
            raise DecoderLost("decode_crash", message) from None
        except BaseException:
            self.stop()  # its next answer might be to this request
            raise
        into[...] = np.frombuffer(self.pixels, np.uint8, into.nbytes).reshape(into.shape)
        return refusals

    def stop(self) -> int | None:
        """End the process, if there is one; its exit status as ``subprocess`` gives it."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.kill()
        process.communicate()
        return process.returncode

    def close(self) -> None:
        """End the process for good and give the memory back."""
        self.stop()
        if self.shared is not None:
            self.shared.close()
        self.shared, self.pixels = None, b""

    def disown(self) -> None:
        """In a forked child: let go of the parent's process, which must see its input end when the parent is killed."""
        if self.process is None:
            return
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            os.dup2(nowhere, pipe.fileno(), inheritable=False)
        os.close(nowhere)
        self.process.returncode = 0  # not ours to wait for

    def _settings(self, *settings: Any) -> bytes:
        if settings != self.settings[0]:
            self.settings = settings, pickle.dumps(settings)
        return self.settings[1]

    @staticmethod
    def _ask(
        process: subprocess.Popen[bytes], settings: bytes, reads: list[Callable[[], bytes]]
    ) -> list[Exception | None]:
        """Answers come together: for each by itself the processes would change places, and the caches what they hold.

        Raises OSError where the process has ended.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        failures: list[Exception | None] = [None] * len(reads)
        asked = []
        for i, read in enumerate(reads):
            try:
                data = read()
            except Exception as e:
                failures[i] = e
                continue
            process.stdin.write(b"".join([struct.pack(">QQQ", len(settings), len(data), i), settings, data]))
            process.stdin.flush()
            asked.append(i)
        process.stdin.write(bytes(24))
        process.stdin.flush()
        for i in asked:
            header = process.stdout.read(9)
            if len(header) < 9:
                raise BrokenPipeError
            length = struct.unpack(">Q", header[1:])[0]
            answer = process.stdout.read(length)
            if len(answer) < length:
                raise BrokenPipeError
            if header[:1] == b"-":
                code, _, message = answer.decode().partition("\n")
                failures[i] = ImageRefused(code, message)
        return failures

    def _make_room(self, size: int) -> None:
        if len(self.pixels) < size:
            self.shared.truncate(size)
            self.pixels = mmap.mmap(self.shared.fileno(), size)
