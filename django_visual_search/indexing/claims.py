"""Claims on pictures: counted in the database before the decode, held for a limited time, and settled afterwards.

Entry functions: ``claim`` and ``Lease``. A *claim* is the right of one process to embed a picture until its *lease*
ends; it is an ``IndexingAttempt`` whose token that process holds. A picture whose attempts are used up is
*quarantined*. Celery alone can't do this: ``acks_late`` runs a task that kills its worker once and loses it,
``reject_on_worker_lost`` runs it for ever.
"""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import Error as DatabaseFailure
from django.db import connections, router, transaction
from django.db.models import DurationField, F, Subquery
from django.utils import timezone

from ..conf import conf
from ..db.rows import keys_from_texts
from ..db.statements import compile_query
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from .stale import attempts_at, stale

logger = logging.getLogger("django_visual_search")

Result = TypeVar("Result")
AttemptState = IndexingAttempt.State


@dataclass(frozen=True)
class Picture:
    """A row to embed: its primary key as text, the image's name and the key that its vector will have."""

    object_id: str
    image: str
    key: str
    pause: float = 0
    """Seconds of its last pause after a failure of the storage."""


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
WITH wanted AS MATERIALIZED (
    SELECT object_id, key FROM unnest(%s::text[], %s::text[]) AS asked (object_id, key)
    JOIN ({{stale}}) AS stale (pk, key) USING (key) WHERE stale.pk::text = object_id),
free AS MATERIALIZED (
    SELECT object_id FROM {{table}} AS held JOIN wanted USING (object_id)
    WHERE held.label = %s AND (held.key <> wanted.key OR {MAY_TRY_AGAIN}) FOR UPDATE OF held SKIP LOCKED)
INSERT INTO {{table}} AS held (label, object_id, key, token, attempts, state, code, message, leased_until, updated_at)
SELECT %s, object_id, key, %s::uuid, 1, 'running', '', '',
       clock_timestamp() + %s * interval '1 second', clock_timestamp()
FROM wanted WHERE object_id IN (SELECT object_id FROM free)
    OR NOT EXISTS (SELECT 1 FROM {{table}} AS other WHERE other.label = %s AND other.object_id = wanted.object_id)
ORDER BY object_id
ON CONFLICT (label, object_id) DO UPDATE SET
    attempts = CASE WHEN held.key = EXCLUDED.key THEN held.attempts + 1 ELSE 1 END,
    key = EXCLUDED.key, token = EXCLUDED.token, state = 'running', code = '', message = '',
    leased_until = EXCLUDED.leased_until, updated_at = EXCLUDED.updated_at
WHERE held.key <> EXCLUDED.key OR {MAY_TRY_AGAIN}
RETURNING object_id, attempts
"""


def claim(field: EmbeddingField, pictures: list[Picture], token: str) -> list[Claim]:
    """Claim the pictures that are still stale, unclaimed and have attempts left, and count the attempt.

    ``token``: a new UUID; its maker can release the claims even if the database's answer never comes.
    """
    connection = connections[router.db_for_write(field.model)]
    by_id = {picture.object_id: picture for picture in pictures}
    pairs = list(by_id), [picture.key for picture in by_id.values()]
    rows = (
        stale(field)
        .filter(pk__in=keys_from_texts(field.target_model, by_id, connection.alias))
        .values_list("pk", "_visual_wanted")
    )
    still_stale, params = compile_query(rows, connection.alias)
    label, most = field.label, conf.MAX_ATTEMPTS
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM.format(table=connection.ops.quote_name(IndexingAttempt._meta.db_table), stale=still_stale),
            (*pairs, *params, label, most, label, token, conf.LEASE_SECONDS, label, most),
        )
        return [Claim(by_id[object_id], token, attempts) for object_id, attempts in cursor.fetchall()]


def refuse(field: EmbeddingField, claimed: Claim, code: str, message: str) -> None:
    """Settle a claim on a picture that is not acceptable; it is tried again when it is replaced."""
    _settle(field, [claimed], state=AttemptState.REFUSED, code=code, message=message, **_lease(0))


def fail(field: EmbeddingField, claimed: Claim, code: str, message: str) -> bool:
    """Settle a claim whose attempt failed: tried again after the lease, quarantined if it was the last.

    Returns whether it was.
    """
    last = claimed.attempts >= conf.MAX_ATTEMPTS
    state = AttemptState.QUARANTINED if last else AttemptState.FAILED
    _settle(field, [claimed], state=state, code=code, message=message, **_lease(conf.LEASE_SECONDS))
    return last


def release(field: EmbeddingField, claimed: list[Claim]) -> None:
    """Release unsettled claims without counting the attempt: the pictures are not at fault."""
    _settle(field, claimed, state=AttemptState.FAILED, attempts=F("attempts") - 1, **_lease(0))


LONGEST_PAUSE = 3600.0
"""Seconds."""
STORAGE = "storage"


def postpone(field: EmbeddingField, claimed: Claim, message: str) -> None:
    """Release a claim because the storage failed; each time, the picture pauses twice as long as before."""
    pause = min(max(conf.LEASE_SECONDS, 2 * claimed.picture.pause), max(LONGEST_PAUSE, conf.LEASE_SECONDS))
    values = {"state": AttemptState.FAILED, "code": STORAGE, "message": message, **_lease(pause)}
    _settle(field, [claimed], attempts=F("attempts") - 1, **values)


def last_pause(field: EmbeddingField) -> Subquery:
    """Return, for a query of ``stale``, how long the row's picture was last postponed, or NULL."""
    postponed = attempts_at(field).filter(code=STORAGE)
    return Subquery(postponed.values_list(F("leased_until") - F("updated_at"))[:1], output_field=DurationField())


def renew(field: EmbeddingField, claimed: list[Claim]) -> None:
    """Extend claims that are still valid by another lease."""
    _settle(field, claimed, **_lease(conf.LEASE_SECONDS))


def quarantine_lost(field: EmbeddingField) -> int:
    """Quarantine pictures whose last attempt never came back, as when each killed its worker. Return how many."""
    message = (
        f"Each of {conf.MAX_ATTEMPTS} attempts to embed this picture ended with its worker lost. "
        "Replace the picture, or retry it."
    )
    now = timezone.now()
    lost = _attempts(field).filter(
        state__in=[AttemptState.RUNNING, AttemptState.FAILED], attempts__gte=conf.MAX_ATTEMPTS, leased_until__lte=now
    )
    return _update_unlocked(lost, state=AttemptState.QUARANTINED, code="worker_lost", message=message, updated_at=now)


def _settle(field: EmbeddingField, claimed: list[Claim], **values: Any) -> None:
    ids, tokens = [c.picture.object_id for c in claimed], [c.token for c in claimed]
    _update_unlocked(_attempts(field).filter(object_id__in=ids, token__in=tokens, state=AttemptState.RUNNING), **values)


def _attempts(field: EmbeddingField) -> Any:
    return IndexingAttempt.objects.using(router.db_for_write(field.model)).filter(label=field.label)


def _update_unlocked(rows: Any, /, **values: Any) -> int:
    """Update attempts except those that another transaction has locked, because it deletes or claims them."""
    with transaction.atomic(using=rows.db):
        found = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
        return int(rows.model.objects.using(rows.db).filter(pk__in=found).update(**values)) if found else 0


def _lease(seconds: float) -> dict[str, Any]:
    now = timezone.now()
    return {"leased_until": now + datetime.timedelta(seconds=seconds), "updated_at": now}


SHORTEST_WAIT = 0.05  # seconds


class Lease:
    """The claims that this process holds: renewed during the work, released at an interruption.

    They are renewed every third of a lease.
    """

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.held: list[Claim] = []
        self.renewed = time.monotonic()

    def expect(self, pictures: list[Picture]) -> str:
        """Return the token for claims on these pictures that are about to be made.

        They count as held from now on: an interruption may come between the claim and its answer, and must release
        these claims too.
        """
        token = str(uuid.uuid4())
        self.held = [*self.held, *(Claim(picture, token, 0) for picture in pictures)]
        return token

    def hold(self, claimed: list[Claim]) -> None:
        """Renew these claims from now on, and no others."""
        self.held = claimed
        self._renew()

    def wait(self, future: Future[Result]) -> Result:
        """Return the future's result, or raise what it raises, and keep the claims meanwhile."""
        while True:
            try:
                return future.result(timeout=max(SHORTEST_WAIT, conf.LEASE_SECONDS / 3))
            except TimeoutError:
                if future.done():  # it is the work that timed out
                    raise
                self._renew()

    def give_back(self) -> None:
        """Release the claims held, if the database still answers; settled ones stay settled."""
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

    def _renew(self) -> None:
        now = time.monotonic()
        if self.held and now - self.renewed > conf.LEASE_SECONDS / 3:
            renew(self.field, self.held)
            self.renewed = now
