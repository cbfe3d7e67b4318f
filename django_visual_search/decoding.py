"""Decodes a picture in a process of its own, so that no picture can take a worker down."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .conf import conf
from .extractors import ExtractorSpec, ExtractorUnavailable
from .images import ImageRefused


class DecoderLost(RuntimeError):  # noqa: N818 (as in "the connection was lost")
    """The decoding process ended on this picture; ``code`` is ``decode_time`` or ``decode_crash``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decoder:
    """One decoding process, started on first use and again after it was lost."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, spec: ExtractorSpec) -> NDArray[np.uint8]:
        """uint8 ``(s, s, 3)`` with ``s = spec.input_size``.

        Raises ImageRefused, DecoderLost, and ExtractorUnavailable where no decoding process can run.
        """
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.process = self._start()
        seconds = conf.DECODE_SECONDS
        try:
            status, answer = self._ask(self.process, pickle.dumps((data, spec.images, spec.input_size, seconds)))
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
        if status == b"-":
            code, _, message = answer.decode().partition("\n")
            raise ImageRefused(code, message)
        return np.frombuffer(answer, np.uint8).reshape(spec.input_size, spec.input_size, 3)

    def stop(self) -> int | None:
        """End the process, if there is one; its exit status as ``subprocess`` gives it."""
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

    @staticmethod
    def _ask(process: subprocess.Popen[bytes], request: bytes) -> tuple[bytes, bytes]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(struct.pack(">Q", len(request)) + request)
        process.stdin.flush()
        header = process.stdout.read(9)
        if len(header) < 9:
            raise BrokenPipeError
        status, length = header[:1], struct.unpack(">Q", header[1:])[0]
        answer = process.stdout.read(length)
        if len(answer) < length:
            raise BrokenPipeError
        return status, answer

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        package = Path(__file__).parent
        path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        process = subprocess.Popen(
            [sys.executable, str(package / "_decoder.py"), str(conf.DECODE_MEMORY_MB)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,  # Ctrl-C is for the parent
        )
        assert process.stdout is not None
        if process.stdout.read(1) != b".":
            process.kill()
            process.communicate()
            raise ExtractorUnavailable(
                f"The process that decodes pictures does not start (exit status {process.returncode}; its message is "
                f"on the standard error). Is VISUAL_SEARCH['DECODE_MEMORY_MB'] = {conf.DECODE_MEMORY_MB} too little?"
            )
        return process
