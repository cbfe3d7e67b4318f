"""Progress of a long command: tqdm's bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import shutil
import threading
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


class Progress:
    """Writes count, rate and time left to ``stream``, a file or an output of a Django command."""

    def __init__(self, stream: Any, total: int, unit: str = "pictures") -> None:
        self.stream = stream
        self.total = total
        self.unit = unit
        self.terminal = bool(stream.isatty())
        self.count = 0
        self._bar: tqdm | None = None

    def show(self, count: int) -> None:
        """Report that ``count`` of the total are done; fewer than before start another round."""
        if count == self.count:
            return
        if count < self.count:
            self.finish()
        self.count = count
        if self._bar is None:
            self._bar = _Bar(
                desc=self.unit,
                unit="",
                total=self.total,
                file=_Output(self.stream, self.terminal),
                bar_format=BAR if self.terminal else LINE,
                position=0,
                ncols=shutil.get_terminal_size().columns,  # tqdm shows nothing on a terminal of unknown width
                mininterval=0.1 if self.terminal else LINE_SECONDS,
                miniters=1,
            )
        self._bar.total = self.total
        self._bar.update(count - self._bar.n)
        if count >= self.total:
            self.finish()

    def finish(self) -> None:
        """Write the last state and end the line."""
        if self._bar is not None:
            self._bar.leave = self.terminal or self._bar.last_print_n != self._bar.n  # else that line is written
            self._bar.close()
            self._bar = None


class _Bar(tqdm):
    monitor_interval = 0  # no thread, which would not survive a fork


_Bar.set_lock(threading.RLock())  # tqdm's own is one between processes, with a process to track it


class _Output:
    """Pass tqdm's output on, without a terminal as lines. A closed pipe ends the reports, not the work."""

    def __init__(self, stream: Any, terminal: bool) -> None:
        self.stream = stream
        self.terminal = terminal
        self.encoding = getattr(stream, "encoding", None)

    def write(self, text: str) -> None:
        if not self.terminal:
            text = f"{text.strip()}\n" if text.strip() else ""
        try:
            if hasattr(self.stream, "style_func"):  # Django's OutputWrapper, whose stderr would be red
                self.stream.write(text, str, ending="")
            else:
                self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            pass

    def flush(self) -> None:
        """Do nothing: ``write`` flushes."""
