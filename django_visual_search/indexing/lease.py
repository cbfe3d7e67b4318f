"""Keeps the claims of a running batch: slow work is not lost work."""

from __future__ import annotations

import logging
import time
import uuid
from concurrent import futures
from concurrent.futures import Future
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connections, router

from ..conf import conf
from ..fields import EmbeddingField
from . import claims
from .claims import Claim, Picture

logger = logging.getLogger("django_visual_search")

SHORTEST_WAIT = 0.05  # seconds


class Lease:
    """Renews claims while their pictures are decoded and inferred, three times as often as they would end."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.held: list[Claim] = []
        self.renewed = time.monotonic()

    def expect(self, pictures: list[Picture]) -> str:
        """The token for claims on these pictures that are about to be made.

        They count as held from now on: an interruption may come between the claim and the knowledge of it, and what
        was claimed by then is to be given back too.
        """
        token = str(uuid.uuid4())
        self.held = [*self.held, *(Claim(picture, token, 0) for picture in pictures)]
        return token

    def hold(self, claimed: list[Claim]) -> None:
        """Keep these claims from now on, and no others."""
        self.held = claimed
        self.renew()

    def give_back(self) -> None:
        """Release what is held, if the database still answers; what is settled stays so."""
        connection = connections[router.db_for_write(self.field.model)]
        held, self.held = self.held, []
        if not held:
            return
        try:
            try:
                claims.release(self.field, held)
            except DatabaseFailure:
                if connection.in_atomic_block:
                    raise
                connection.close()  # an interruption in the middle of a statement can leave it unusable
                claims.release(self.field, held)
        except DatabaseFailure:
            logger.warning("visual search: claims on %s not given back; they end with their lease", self.field.label)

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
