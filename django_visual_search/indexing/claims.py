"""Claims on pictures: counted in the database before the decode, held for a limited time, and what became of them.

Celery alone can't do this: ``acks_late`` runs a task that kills its worker once and loses it, ``reject_on_worker_lost``
for ever.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import connections, router, transaction
from django.db.models import F
from django.utils import timezone

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
