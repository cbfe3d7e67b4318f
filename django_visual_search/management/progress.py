"""Progress of a long command: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

WIDTH = 30
LINE_SECONDS = 10.0


class Progress:
    """Writes count, rate and time left to ``stream``; on a terminal over itself, else a line every few seconds."""

    def __init__(self, stream: Any, total: int, unit: str = "pictures") -> None:
        self.stream = stream
        self.total = total
        self.unit = unit
        self.terminal = bool(stream.isatty())
        self.written = 0.0
        self._begin()

    def _begin(self) -> None:
        self.started = time.monotonic()
        self.count = 0
        self.said: int | None = None
        self.first = self.started, 0
        """The first report: what comes before it, such as loading a model, tells nothing of the time left."""

    def show(self, count: int) -> None:
        """Report that ``count`` of the total are through; fewer than before if a new round has begun."""
        if count < self.count:
            self._begin()
        self.count = count
        if count and not self.first[1]:
            self.first = time.monotonic(), count
        if not count and not self.terminal:
            return
        now = time.monotonic()
        if now - self.written < (0.1 if self.terminal else LINE_SECONDS):
            return
        self.written = now
        self._write()

    def finish(self) -> None:
        """Write the last state and end the line."""
        if self.total and (self.terminal or self.count != self.said):
            self._write()
        if self.terminal and self.total:
            self._raw("", "\n")

    def _write(self) -> None:
        self.said = self.count
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = self.count / seconds
        text = f"{self.count}/{self.total} {self.unit}"
        if self.count == self.total:
            text += f", {rate:.0f}/s, {_clock(seconds)}"
        elif since := self.count - self.first[1]:
            rate = since / max(time.monotonic() - self.first[0], 1e-9)
            text += f", {rate:.0f}/s, {_clock((self.total - self.count) / rate)} left"
        if self.terminal:
            filled = int(WIDTH * self.count / self.total) if self.total else WIDTH
            self._raw(f"\r[{'#' * filled}{'.' * (WIDTH - filled)}] {text}\033[K", "")
        else:
            self._raw(text, "\n")

    def _raw(self, text: str, ending: str) -> None:
        if hasattr(self.stream, "style_func"):  # Django's OutputWrapper; its stderr would be red
            self.stream.write(text, str, ending=ending)
        else:
            self.stream.write(text + ending)
        self.stream.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02}"
