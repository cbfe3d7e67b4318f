"""Frames over the pipes to a decoding process, with a limit on how long the other end may do nothing.

``Pipes.send`` and ``Pipes.receive`` are the parent's side of the protocol in ``child.py``.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable

from .child import HEADER

# Linux alone tells a peer that has closed from one that has sent nothing.
HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP) | select.POLLHUP | select.POLLERR
LONGEST_ANSWER = 2**26
"""Bytes: a square of 4,000 pixels has 48 million. A process that was taken over may claim any length."""

QUICK_SECONDS = 0.1
"""Processor time that a searched photo may take before others come first. Most take a tenth of it."""
LOOK_SECONDS = 0.05
"""How often that is looked at."""


class SilentError(OSError):
    """The other end did nothing for as long as it may."""


class HungUpError(Exception):
    """The visitor who waits for the answer has closed the connection."""


class Pipes:
    """A decoding process's standard input and output, as ``subprocess`` gives them."""

    patience: float = 0
    """Seconds that the process may do nothing."""
    visitor: int | None = None
    """Socket of the person who waits."""
    step_aside: Callable[[], None] | None = None
    """Called once, when the process has worked for QUICK_SECONDS; may raise, and so end the wait."""
    begun: float = 0
    """The process's ``cpu_seconds`` at the beginning of its work."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.into, self.out = process.stdin.fileno(), process.stdout.fileno()
        self.clock = ~process.pid << 3 | 2  # clock_getcpuclockid(3), as Linux has it
        for end in (self.into, self.out):
            os.set_blocking(end, False)

    def send(self, *frames: tuple[bytes, bytes | memoryview]) -> None:
        """Write frames, (kind, bytes). Raises SilentError, HungUpError, or OSError where the process has ended."""
        views = [memoryview(part) for kind, body in frames for part in (HEADER.pack(kind, len(body)), body) if part]
        while views:
            try:
                written = os.writev(self.into, views)
            except BlockingIOError:
                self._wait(self.into, select.POLLOUT)
                continue
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]

    def receive(self) -> tuple[bytes, bytes]:
        """Read a frame: (kind, bytes). Raises EOFError if the process ends before, and as ``send``."""
        kind, length = HEADER.unpack(self.read(HEADER.size))
        if length > LONGEST_ANSWER:
            raise EOFError("The answer claims to be longer than any picture.")
        return kind, self.read(length)

    def read(self, length: int) -> bytes:
        """Read so many bytes; raises as ``receive``."""
        parts = []
        while length:
            try:
                part = os.read(self.out, length)
            except BlockingIOError:
                self._wait(self.out, select.POLLIN)
                continue
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has taken; where the system doesn't say it, the time."""
        try:
            return time.clock_gettime(self.clock)
        except OSError:
            return time.monotonic()

    def _look_after(self, until: float) -> float:
        left = max(0.0, until - time.monotonic())
        return left if self.step_aside is None else min(left, LOOK_SECONDS)

    def _wait(self, end: int, event: int) -> None:
        """Wait until a pipe's end is ready, or closed."""
        poll = select.poll()
        poll.register(end, event)
        if self.visitor is not None:
            poll.register(self.visitor, HUNG_UP)
        until = time.monotonic() + self.patience
        while not (ready := dict(poll.poll(1000 * self._look_after(until)))) and time.monotonic() < until:
            if self.step_aside is not None and self.cpu_seconds() - self.begun > QUICK_SECONDS:
                step_aside, self.step_aside = self.step_aside, None
                step_aside()
        if self.visitor in ready:
            raise HungUpError
        if not ready:
            raise SilentError
