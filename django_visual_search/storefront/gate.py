"""The limit on photo searches that one process runs at the same time; the next waits a moment, others try again later.

Entry functions: ``photo_slot`` and ``refuse_when_full``. Shops import them from ``django_visual_search.gate``.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator

from django.http import HttpRequest

from ..conf import conf
from ..decoding.photos import waiting_visitor
from .uploads import visitor_socket

WAIT_SECONDS = 1.0
"""Seconds that a photo search waits for a slot."""
WAITING = 2
"""Most searches that wait at the same time: each holds a thread of the server."""
BUSY_SECONDS = (1, 2)
"""Least and most seconds after which to try again, drawn at random so that visitors don't all return at once."""


class Busy(Exception):  # noqa: N818 (a state, not a fault)
    """All slots of this process are taken. ``retry_after``: whole seconds."""

    def __init__(self) -> None:
        super().__init__("Too many photo searches are running. Try again in a few seconds.")
        self.retry_after = random.randint(*BUSY_SECONDS)


class Gate:
    """Count running and waiting searches; at most ``PHOTO_SEARCHES_AT_ONCE`` run.

    As many again may be *slow*: their photos take long to decode, so they have given up their slot. Whoever sends
    photos that were made to hurt holds up others like them, and ordinary searches for a moment only.
    """

    def __init__(self) -> None:
        self.freed = threading.Condition()
        self.running = 0
        self.slow = 0
        self.waiting = 0

    def enter(self, wait: float) -> None:
        with self.freed:
            if self._is_full():
                self.refuse_when_full()
                self.waiting += 1
                try:
                    if not self.freed.wait_for(self._has_slot, wait):
                        raise Busy
                finally:
                    self.waiting -= 1
            self.running += 1

    def refuse_when_full(self) -> None:
        if self._is_full() and self.waiting >= WAITING:
            raise Busy

    def step_aside(self) -> None:
        """Give the slot of a running search to the next one. Raise Busy if too many have done so."""
        with self.freed:
            if self.slow >= conf.PHOTO_SEARCHES_AT_ONCE:
                raise Busy
            self.slow += 1
            self.running -= 1
            self.freed.notify()

    def leave(self, slow: bool) -> None:
        with self.freed:
            if slow:
                self.slow -= 1
            else:
                self.running -= 1
                self.freed.notify()

    def _is_full(self) -> bool:
        return bool(self.waiting) or not self._has_slot()  # who waits comes first

    def _has_slot(self) -> bool:
        return bool(self.running < conf.PHOTO_SEARCHES_AT_ONCE)


@contextlib.contextmanager
def photo_slot(wait: float = WAIT_SECONDS, request: HttpRequest | None = None) -> Iterator[None]:
    """Hold one of the process's ``PHOTO_SEARCHES_AT_ONCE`` slots. Raises Busy after ``wait`` seconds without one.

    ``request``: the visitor's; who hangs up gives the slot back, where the server can tell. Busy is raised within the
    block too, where a photo takes long to decode and others of that kind are being decoded.
    """
    gate, slow = _gate, False  # the process may fork within the block

    def step_aside() -> None:
        nonlocal slow
        if not slow:  # one search may decode its photo twice
            gate.step_aside()
            slow = True

    gate.enter(wait)
    try:
        with waiting_visitor(None if request is None else visitor_socket(request), step_aside):
            yield
    finally:
        gate.leave(slow)


def refuse_when_full() -> None:
    """Raise Busy if no place is free even to wait; call it before doing any work for a photo."""
    _gate.refuse_when_full()


_gate = Gate()


def _reset_gate() -> None:
    global _gate
    _gate = Gate()


# A child runs no searches yet, and may have inherited a lock that nobody is left to release.
os.register_at_fork(after_in_child=_reset_gate)
