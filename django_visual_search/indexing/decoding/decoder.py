"""Run one decoding process (``child.py``) and ask it for pixels.

Entry function: ``Decoder.decode``. A picture that the process refuses, that kills it or that can't be read gives its
own exception in place of pixels; its neighbours are decoded all the same.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...conf import conf
from ...extractors import ExtractorSpec, ExtractorUnavailable
from ...images import ImageRefused
from .child import END, PICTURE, PIXELS, READY, SETTINGS, receive, send

Decoded = NDArray[np.uint8] | Exception
"""A picture's pixels, ``(s, s, 3)``, or why there are none: what reading raised, ImageRefused or DecoderLost."""

CHILD = Path(__file__).with_name("child.py")
ROOT = Path(__file__).resolve().parents[3]
"""The folder that this package is imported from."""

# By itself glibc gives freed memory back to the system and gets it again for the next picture: decoding a picture of
# 348 pixels then takes a fifth more processor time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": f"{2**26}", "MALLOC_TOP_PAD_": f"{2**24}", "MALLOC_MMAP_THRESHOLD_": f"{2**25}"}


class DecoderLost(RuntimeError):  # noqa: N818 (as in "the connection was lost")
    """The decoding process ended on this picture; ``code`` is ``decode_time`` or ``decode_crash``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decoder:
    """One decoding process, started on first use and again after it was lost. Not for several threads at once."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def decode(self, reads: Sequence[Callable[[], bytes]], spec: ExtractorSpec) -> list[Decoded]:
        """Read pictures and decode them to squares of ``spec.input_size`` pixels.

        Raises ExtractorUnavailable where no decoding process can run.
        """
        try:
            return self._decode_together(reads, spec)
        except DecoderLost as e:
            if len(reads) == 1:
                return [e]
        # Which of them it was is seen when each goes alone.
        return [self.decode([read], spec)[0] for read in reads]

    def stop(self) -> int | None:
        """End the process, if there is one, and return its exit status as ``subprocess`` gives it."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.kill()
        process.communicate()
        return process.returncode

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

    def _decode_together(self, reads: Sequence[Callable[[], bytes]], spec: ExtractorSpec) -> list[Decoded]:
        """Decode in the process. Raises DecoderLost if a picture ends it."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.process = _start()
        seconds = conf.DECODE_SECONDS
        try:
            return _ask(self.process, reads, spec, seconds)
        except (OSError, EOFError):
            if self.stop() == -signal.SIGALRM:
                message = f"Decoding this picture took more than {seconds} s and was stopped."
                raise DecoderLost("decode_time", message) from None
            message = (
                "The process that decoded this picture ended: the file crashes the decoder or takes too much memory."
            )
            raise DecoderLost("decode_crash", message) from None
        except BaseException:
            self.stop()  # its next answer might be to this request
            raise


def _start() -> subprocess.Popen[bytes]:
    """Return a process that is ready to decode. Raises ExtractorUnavailable."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    process = subprocess.Popen(
        [sys.executable, "-P", str(CHILD), str(conf.DECODE_MEMORY_MB)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**MALLOC, **os.environ, "PYTHONPATH": path},
        process_group=0,  # Ctrl-C is for the parent
    )
    assert process.stdout is not None
    if process.stdout.read(1) != READY:
        process.kill()
        process.communicate()
        raise ExtractorUnavailable(
            f"The process that decodes pictures does not start (exit status {process.returncode}; its message is "
            f"on the standard error). Is VISUAL_SEARCH['DECODE_MEMORY_MB'] = {conf.DECODE_MEMORY_MB} too little?"
        )
    return process


def _ask(
    process: subprocess.Popen[bytes], reads: Sequence[Callable[[], bytes]], spec: ExtractorSpec, seconds: float
) -> list[Decoded]:
    """Send pictures one by one, as they are read, and get their answers together.

    Raises OSError or EOFError where the process has ended.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    decoded: list[Decoded | None] = [None] * len(reads)
    send(process.stdin, SETTINGS, pickle.dumps((spec.images, spec.input_size, seconds)))
    for i, read in enumerate(reads):
        try:
            data = read()
        except Exception as e:
            decoded[i] = e
            continue
        send(process.stdin, PICTURE, data)
        process.stdin.flush()
    send(process.stdin, END)
    process.stdin.flush()
    return [_answer(*receive(process.stdout), spec.input_size) if one is None else one for one in decoded]


def _answer(kind: bytes, body: bytes, size: int) -> Decoded:
    if kind == PIXELS:
        return np.frombuffer(body, np.uint8).reshape(size, size, 3)
    code, _, message = body.decode().partition("\n")
    return ImageRefused(code, message)
