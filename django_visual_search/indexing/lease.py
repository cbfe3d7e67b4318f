"""Keeps the claims of a running batch: slow work is not lost work."""

from __future__ import annotations

import time
from concurrent import futures
from concurrent.futures import Future
from typing import Any

from ..conf import conf
from ..fields import EmbeddingField
from . import claims
from .claims import Claim

SHORTEST_WAIT = 0.05  # seconds


class Lease:
    """Renews claims while their pictures are decoded and inferred, three times as often as they would end."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.held: list[Claim] = []
        self.renewed = time.monotonic()

    def hold(self, claimed: list[Claim]) -> None:
        """Keep these claims from now on, and no others."""
        self.held = claimed
        self.renew()

    def renew(self) -> None:
        """Renew them if it is time."""
        now = time.monotonic()
        if self.held and now - self.renewed > conf.LEASE_SECONDS / 3:
            claims.renew(self.field, self.held)
            self.renewed = now

    def wait(self, future: Future[Any]) -> Any:
        """The future's result, or what it raises."""
        while True:
            try:
                return future.result(timeout=max(SHORTEST_WAIT, conf.LEASE_SECONDS / 3))
            except TimeoutError:
                if future.done():  # it is the work that timed out
                    raise
                self.renew()

    def wait_for_all(self, pending: list[Future[Any]]) -> None:
        """Until each has a result or an exception. Waking up once a picture would take 50 microseconds each time."""
        while futures.wait(pending, timeout=max(SHORTEST_WAIT, conf.LEASE_SECONDS / 3)).not_done:
            self.renew()
