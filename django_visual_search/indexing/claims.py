"""Claims on pictures: counted in the database before the decode, held for a limited time, and what became of them.

Celery alone can't do this: ``acks_late`` runs a task that kills its worker once and loses it, ``reject_on_worker_lost``
for ever.

Keeps the claims of a running batch: slow work is not lost work.

Pictures go in batches: keys as they come, and what is known of a batch on its way to vectors.
"""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from django.db import Error as DatabaseFailure
from django.db import connections, router, transaction
from django.db.models import F
from django.utils import timezone
from numpy.typing import NDArray

from ..conf import conf
from ..db.statements import Answer, Statement, execute_together
from ..fields import EmbeddingField
from ..models import IndexingAttempt


@dataclass(frozen=True)
class Picture:
    """A row to embed: its primary key as text, the image's name and the key its vector will have."""

    object_id: str
    image: str
    key: str


@dataclass(frozen=True)
class Claim:
    """A picture that this process may embed until the lease ends; ``attempts`` counts this one."""

    picture: Picture
    token: str
    attempts: int


MAY_TRY_AGAIN = (
    "(held.leased_until <= clock_timestamp() AND held.attempts < %s AND held.state IN ('running', 'failed'))"
)

# A row that a shop's open transaction has locked (it marked the picture as stale) is passed over, not waited for:
# claiming several rows while waiting for one would deadlock with a transaction that saves them in another order.
CLAIM = f"""
WITH wanted AS (SELECT * FROM unnest(%s::text[], %s::text[]) AS wanted (object_id, key)),
free AS MATERIALIZED (
    SELECT object_id FROM {{table}} AS held JOIN wanted USING (object_id)
    WHERE held.label = %s AND (held.key <> wanted.key OR {MAY_TRY_AGAIN}) FOR UPDATE OF held SKIP LOCKED)
INSERT INTO {{table}} AS held (label, object_id, key, token, attempts, state, code, message, leased_until, updated_at)
SELECT %s, object_id, key, %s::uuid, 1, 'running', '', '',
       clock_timestamp() + %s * interval '1 second', clock_timestamp()
FROM wanted WHERE object_id IN (SELECT object_id FROM free)
    OR NOT EXISTS (SELECT 1 FROM {{table}} AS known WHERE known.label = %s AND known.object_id = wanted.object_id)
ORDER BY object_id
ON CONFLICT (label, object_id) DO UPDATE SET
    attempts = CASE WHEN held.key = EXCLUDED.key THEN held.attempts + 1 ELSE 1 END,
    key = EXCLUDED.key, token = EXCLUDED.token, state = 'running', code = '', message = '',
    leased_until = EXCLUDED.leased_until, updated_at = EXCLUDED.updated_at
WHERE held.key <> EXCLUDED.key OR {MAY_TRY_AGAIN}
RETURNING object_id, attempts
"""


def claim(
    field: EmbeddingField, pictures: list[Picture], also: Statement | None = None, *, token: str | None = None
) -> tuple[list[Claim], Answer]:
    """Claim and count those pictures that nobody else holds and that have attempts left, in one statement.

    ``also``: a statement that runs after it in the same round trip; its rows come back with the claims.
    ``token``: of these claims, a new UUID. Who knows it before can release them even if the answer never comes.
    """
    connection = connections[router.db_for_write(field.model)]
    table = connection.ops.quote_name(IndexingAttempt._meta.db_table)
    by_id = {picture.object_id: picture for picture in pictures}
    wanted = (list(by_id), [picture.key for picture in by_id.values()])
    label, tries, token = field.label, conf.MAX_ATTEMPTS, token or str(uuid.uuid4())
    params = (*wanted, label, tries, label, token, conf.LEASE_SECONDS, label, tries)
    statements: list[Statement] = [(CLAIM.format(table=table), params)]
    rows, *rest = execute_together(connection, [*statements, *([also] if also else [])])
    return [Claim(by_id[object_id], token, attempts) for object_id, attempts in rows], rest[0] if rest else []


def refuse(field: EmbeddingField, claimed: Claim, code: str, message: str) -> None:
    """The picture itself is not acceptable: not tried again until it is replaced."""
    _settle(field, [claimed], state=IndexingAttempt.State.REFUSED, code=code, message=message, **_now())


def fail(field: EmbeddingField, claimed: Claim, code: str, message: str) -> None:
    """The attempt did not work out: tried again after the lease, quarantined when it was the last."""
    state = IndexingAttempt.State.FAILED
    if claimed.attempts >= conf.MAX_ATTEMPTS:
        state = IndexingAttempt.State.QUARANTINED
    _settle(field, [claimed], state=state, code=code, message=message, **_now(conf.LEASE_SECONDS))


def release(field: EmbeddingField, claimed: list[Claim], message: str = "", *, after: float = 0) -> None:
    """Give claims back without counting them, but for those that are settled: the reason lies elsewhere.

    May be claimed again ``after`` seconds.
    """
    state = IndexingAttempt.State.FAILED
    _settle(field, claimed, state=state, attempts=F("attempts") - 1, message=message, **_now(after))


def renew(field: EmbeddingField, claimed: list[Claim]) -> None:
    """Let claims that still hold go on for another lease from now."""
    _settle(field, claimed, **_now(conf.LEASE_SECONDS))


def drop(field: EmbeddingField, claimed: list[Claim]) -> None:
    """Forget claims on pictures that turn out to need no work."""
    if claimed:
        ids, tokens = [c.picture.object_id for c in claimed], [c.token for c in claimed]
        _attempts(field).filter(object_id__in=ids, token__in=tokens).delete()


def quarantine_lost(field: EmbeddingField) -> int:
    """Quarantine pictures whose last attempt never came back, as when each killed its worker. Returns how many."""
    message = (
        f"Each of {conf.MAX_ATTEMPTS} attempts to embed this picture ended with its worker lost. "
        "Replace the picture, or retry it."
    )
    lost = _attempts(field).filter(
        state__in=[IndexingAttempt.State.RUNNING, IndexingAttempt.State.FAILED],
        attempts__gte=conf.MAX_ATTEMPTS,
        leased_until__lte=timezone.now(),
    )
    values = {
        "state": IndexingAttempt.State.QUARANTINED,
        "code": "worker_lost",
        "message": message,
        "updated_at": timezone.now(),
    }
    return _update_unlocked(lost, values)


def _attempts(field: EmbeddingField) -> Any:
    return IndexingAttempt.objects.using(router.db_for_write(field.model)).filter(label=field.label)


def _settle(field: EmbeddingField, claimed: list[Claim], **values: Any) -> None:
    ids, tokens = [c.picture.object_id for c in claimed], [c.token for c in claimed]
    held = _attempts(field).filter(object_id__in=ids, token__in=tokens, state=IndexingAttempt.State.RUNNING)
    _update_unlocked(held, values)


def _update_unlocked(attempts: Any, values: dict[str, Any]) -> int:
    """What another transaction has locked is about to be deleted or claimed anew: waiting for it would gain nothing."""
    with transaction.atomic(using=attempts.db):
        found = list(attempts.select_for_update(skip_locked=True).values_list("pk", flat=True))
        return int(attempts.model.objects.using(attempts.db).filter(pk__in=found).update(**values)) if found else 0


def _now(lease: float = 0) -> dict[str, Any]:
    now = timezone.now()
    return {"leased_until": now + datetime.timedelta(seconds=lease), "updated_at": now}


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
                release(self.field, held)
            except DatabaseFailure:
                if connection.in_atomic_block:
                    raise
                connection.close()  # an interruption in the middle of a statement can leave it unusable
                release(self.field, held)
        except DatabaseFailure:
            logger.warning("visual search: claims on %s not given back; they end with their lease", self.field.label)

    def renew(self) -> None:
        """Renew them if it is time."""
        now = time.monotonic()
        if self.held and now - self.renewed > conf.LEASE_SECONDS / 3:
            renew(self.field, self.held)
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


def batched(keys: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Tuples of ``size`` keys, the last one shorter. (``itertools.batched`` comes with Python 3.12.)"""
    iterator = iter(keys)
    while batch := tuple(islice(iterator, size)):
        yield batch


@dataclass
class Batch:
    """Claimed pictures, and the memory that the decoders fill with them."""

    claimed: list[Claim]
    memory: NDArray[np.uint8]
    """``(n, s, s, 3)``, ``n >= len(claimed)``: used again once the batch is written, for new memory costs page faults,
    a tenth of a millisecond a picture."""
    decoded: list[Future[None]]
    """Done when that picture's pixels are there, or raises why it has none."""
    vectors: Future[NDArray[np.float32]] | None = None
    """None until they are being inferred."""
    features: NDArray[np.float16] | None = None
    """``(len(claimed), width)``: kept ones, which need no pixels; None where they are to be made."""
    made: NDArray[np.float16] | None = None
    """Those that were made, to be kept."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """``(len(claimed), s, s, 3)``"""
        return self.memory[: len(self.claimed)]

    def only(self, places: list[int]) -> Batch:
        """The pictures at these places, not yet being inferred."""
        if len(places) == len(self.claimed):
            return Batch(self.claimed, self.memory, self.decoded, features=self.features)
        return Batch(
            [self.claimed[i] for i in places],
            self.memory[places] if self.features is None else self.memory,
            [self.decoded[i] for i in places],
            features=None if self.features is None else self.features[places],
        )
