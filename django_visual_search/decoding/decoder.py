"""Run one decoding process (``child.py``) and ask it for pixels.

Entry function: ``Decoder.decode``. A picture that the process refuses, that ends it or that can't be read gives its
own exception in place of pixels; its neighbours are decoded all the same.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..conf import conf
from ..extractors import ExtractorUnavailable
from ..images import Area, ImageOptions, ImageRefused
from ..images.options import BROKEN_PICTURE, gettext_noop
from .child import END, FINISHED, FRESH, PICTURE, PIXELS, READY, SETTINGS, SIZE, TOO_MUCH_MEMORY, DecodeSettings
from .pipes import Pipes, SilentError

Decoded = NDArray[np.uint8] | Exception
"""A picture's pixels, ``(height, width, 3)``, or why not: what reading raised, ImageRefused or DecoderLost."""

PictureFile = bytes | memoryview
ReadPicture = Callable[[], PictureFile]

CPU_SHARE = 0.75
"""Processor time that a picture may take, as a share of ``DECODE_SECONDS``: less than that, so that the limit on the
clock means that the machine was busy. The dearest pictures that ``images`` accepts take half a second."""
STOP_GRACE = 1.0
"""Seconds after its own limit at which a decoding process is taken for dead, as when somebody stopped it."""
START_SECONDS = 30

# By itself glibc gives freed memory back to the system and gets it again for the next picture: decoding a picture of
# 348 pixels then takes a fifth more processor time. Each further arena takes 64 MB of address space.
MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": f"{2**26}",
    "MALLOC_TOP_PAD_": f"{2**24}",
    "MALLOC_MMAP_THRESHOLD_": f"{2**25}",
    "MALLOC_ARENA_MAX": "1",
}


class DecoderLost(RuntimeError):  # noqa: N818 (as in "the connection was lost")
    """The decoding process ended on this picture; ``code`` is ``decode_time`` or ``decode_crash``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Waiting(NamedTuple):
    """Who waits for a picture to be decoded."""

    visitor: int | None = None
    """The socket of the person."""
    step_aside: Callable[[], None] | None = None
    """Called when the picture turns out to take long; may raise, which ends the decoding."""


NOBODY = Waiting()


def decode_settings(
    options: ImageOptions,
    size: int,
    wall_seconds: float,
    crop: tuple[float, float, float, float] | None = None,
    whole: bool = False,
) -> DecodeSettings:
    """Return what a picture becomes, with the limits of the settings."""
    return DecodeSettings(options, size, CPU_SHARE * conf.DECODE_SECONDS, wall_seconds, crop, whole=whole)


class Decoder:
    """One decoding process, started on first use and again after it was lost. Not for several threads at once."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.pipes: Pipes | None = None

    def decode(
        self,
        reads: Sequence[ReadPicture],
        settings: DecodeSettings,
        waiting: Waiting = NOBODY,
        areas: Sequence[Area | None] | None = None,
    ) -> list[Decoded]:
        """Read pictures and decode them, or these ``areas`` of them, to squares.

        Raises HungUpError where the visitor has hung up, what ``waiting.step_aside`` raises, and ExtractorUnavailable
        where no decoding process can run.
        """
        decoded: dict[int, Decoded] = {}
        alone: int | None = None
        while left := [i for i in range(len(reads)) if i not in decoded]:
            if alone is not None:
                left = [alone]
            exchange = _Exchange(reads, left, settings, waiting, areas)
            try:
                exchange.run(self._pipes())
            except (OSError, EOFError) as e:
                self._kill()
                suspect = exchange.suspect()
                status = self.stop()
                end = _end_of(status, isinstance(e, SilentError))
                # Whatever else ended the process, this picture may have nothing to do with it.
                if end is None and alone is None:
                    alone = suspect
                    continue
                decoded[suspect] = end or _crash(status)
            except BaseException:
                self.stop()  # its next answer might be to this request
                raise
            else:
                decoded |= exchange.decoded
            alone = None
        return [decoded[i] for i in range(len(reads))]

    def stop(self) -> int | None:
        """End the process, if there is one, and return its exit status as ``subprocess`` gives it."""
        self._kill()
        process, self.process, self.pipes = self.process, None, None
        _running.discard(self)
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        return process.wait()

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

    def _kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def _pipes(self) -> Pipes:
        if self.pipes is None or self.process is None or self.process.poll() is not None:
            self.stop()
            self.process = _start()
            _running.add(self)
            self.pipes = Pipes(self.process)
            _await_start(self)
        return self.pipes


class _Exchange:
    """One request and its answers."""

    def __init__(
        self,
        reads: Sequence[ReadPicture],
        which: list[int],
        settings: DecodeSettings,
        waiting: Waiting,
        areas: Sequence[Area | None] | None,
    ) -> None:
        self.reads, self.which, self.settings = reads, which, settings
        self.waiting, self.areas = waiting, areas
        self.decoded: dict[int, Decoded] = {}
        self.sent: list[int] = []
        self.finished = 0
        self.pipes: Pipes | None = None

    def run(self, pipes: Pipes) -> None:
        """Send pictures one by one, as they are read, the last with the end; and get their answers together.

        Raises OSError or EOFError where the process has ended.
        """
        self.pipes = pipes
        pipes.patience = self.settings.wall_seconds + STOP_GRACE
        pipes.visitor, pipes.step_aside = self.waiting
        pipes.begun = pipes.cpu_seconds()
        waiting: list[tuple[bytes, PictureFile]] = [(SETTINGS, pickle.dumps(self.settings))]
        area: Area | None = None
        for i in self.which:
            try:
                data = self.reads[i]()
            except Exception as e:
                self.decoded[i] = e
                continue
            self.sent.append(i)
            if self.areas and self.areas[i] != area:
                area = self.areas[i]
                waiting.append((SETTINGS, pickle.dumps(replace(self.settings, area=area))))
            waiting.append((PICTURE, data))
            if i != self.which[-1]:
                pipes.send(*waiting)
                waiting.clear()
        pipes.send(*waiting, (END, b""))
        answers: list[Decoded] = []
        while len(answers) < len(self.sent):
            answers.append(_answer(*self._receive(), self.settings))
        self.decoded |= zip(self.sent, answers, strict=True)

    def suspect(self) -> int:
        """Return the picture at which the process ended: the first that it hasn't finished."""
        with contextlib.suppress(OSError, EOFError):
            while self.pipes is not None:  # what it still wrote
                self._receive()
        if self.finished < len(self.sent):
            return self.sent[self.finished]
        return next((i for i in self.which if i not in self.decoded and i not in self.sent), self.which[0])

    def _receive(self) -> tuple[bytes, bytes]:
        assert self.pipes is not None
        while True:
            kind, body = self.pipes.receive()
            if kind != FINISHED:
                return kind, body
            self.finished += 1


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.Popen(
        python_command(conf.DECODE_MEMORY_MB),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**MALLOC, **os.environ, "PYTHONPATH": path},
        process_group=0,  # Ctrl-C is for the parent
    )


def _await_start(decoder: Decoder) -> None:
    """Return once the process is ready to decode. Raises ExtractorUnavailable."""
    assert decoder.pipes is not None
    decoder.pipes.patience = START_SECONDS
    with contextlib.suppress(OSError, EOFError):
        if decoder.pipes.read(1) == READY:
            return
    raise ExtractorUnavailable(
        f"The process that decodes pictures does not start (exit status {decoder.stop()}; its message is "
        f"on the standard error). Is VISUAL_SEARCH['DECODE_MEMORY_MB'] = {conf.DECODE_MEMORY_MB} too little?"
    )


def _answer(kind: bytes, body: bytes, settings: DecodeSettings) -> Decoded:
    if kind == PIXELS:
        width = height = settings.size
        if settings.whole and len(body) > SIZE.size:
            (width, height), body = SIZE.unpack_from(body), body[SIZE.size :]
        if len(body) != 3 * width * height or max(width, height) > 2 * settings.size:
            raise EOFError("Not a picture of the size that was asked for.")
        return np.frombuffer(body, np.uint8).reshape(height, width, 3)
    try:
        code, message, values = json.loads(body)
        return ImageRefused(str(code), str(message), dict(values))
    except (TypeError, ValueError, KeyError) as e:
        raise EOFError("Not a refusal.") from e


def _end_of(status: int | None, silent: bool) -> Decoded | None:
    """Return what the end of the process says of the picture that it worked on; None where it says nothing."""
    seconds = conf.DECODE_SECONDS
    if status == -signal.SIGPROF:
        return ImageRefused(
            "time",
            gettext_noop("Decoding this picture takes more than %(seconds)g s. Save it again, or smaller."),
            {"seconds": CPU_SHARE * seconds},
        )
    if status == -signal.SIGALRM or silent:
        return DecoderLost("decode_time", "Decoding this picture took too long and was stopped.")
    return None


FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
"""Signals of a codec's own fault, which it has again with the same bytes; others come from outside."""


def _crash(status: int | None) -> Decoded:
    if status == FRESH:
        return ImageRefused("memory", TOO_MUCH_MEMORY)
    if status is not None and -status in FAULTS:
        return ImageRefused("corrupt", BROKEN_PICTURE)
    return DecoderLost(
        "decode_crash",
        "The process that decoded this picture was ended, as where the machine has too little memory.",
    )


_running: set[Decoder] = set()
_inherited_decoders: list[Decoder] = []


@atexit.register
def stop_decoders() -> None:
    """End this process's decoding processes."""
    for decoder in list(_running):
        decoder.stop()


def _leave_decoders_to_parent() -> None:
    for decoder in _running:
        decoder.disown()
        _inherited_decoders.append(decoder)  # kept: the process is the parent's, so nothing may clean up after it
    _running.clear()


os.register_at_fork(after_in_child=_leave_decoders_to_parent)


ROOT = Path(__file__).resolve().parents[2]
"""The folder that this package is imported from."""

NICE = 5
"""Lowers the priority of a decoding process: pages that need no decoding come first."""

LAUNCH = f"import os; os.nice({NICE}); import sys; sys.path += sys.argv[2:]; "
LAUNCH += "from django_visual_search.decoding.child import main; main()"


def python_command(memory_mb: int) -> list[str]:
    """Return the command of a decoding process that may take so much memory. Raises ExtractorUnavailable.

    Modules that this process finds are found there too, after Python's own: a server may have its own way to extend
    the path.
    """
    path = [str(ROOT), *(entry for entry in sys.path if entry)]
    return [_python(), "-P", "-c", LAUNCH, str(memory_mb), *dict.fromkeys(path)]


def _python() -> str:
    for candidate in _candidates():
        if Path(candidate).name.lower().startswith(("python", "pypy")) and os.access(candidate, os.X_OK):
            return candidate
    raise ExtractorUnavailable(
        f"There is no Python to decode pictures with: this process runs in {sys.executable or 'another program'}, and "
        f"{sys.prefix} has none."
    )


def _candidates() -> Iterator[str]:
    """Yield paths: in uWSGI, mod_wsgi and programs that embed Python, ``sys.executable`` is that program or empty."""
    yield sys.executable or ""
    names = f"python{sys.version_info.major}.{sys.version_info.minor}", "python3", "python"
    for folder in (f"{sys.exec_prefix}/bin", f"{sys.prefix}/bin", f"{sys.base_exec_prefix}/bin"):
        yield from (f"{folder}/{name}" for name in names)
    yield f"{sysconfig.get_config_var('BINDIR')}/{names[0]}"
    yield shutil.which(names[0]) or ""
