"""Reindex by the Celery workers: keep them busy, a few batches ahead, and read the results from the database.

Entry functions: ``worker_processes`` and ``embed_by_workers``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator
from datetime import datetime
from typing import Any

from celery import current_app
from django.db import router
from django.db.models import Q
from django.utils import timezone

from ..conf import conf
from ..db.rows import key_text
from ..fields import EmbeddingField
from ..indexing.claims import quarantine_lost
from ..indexing.publishing import connect, enqueue
from ..indexing.runs import Outcome
from ..indexing.stale import SETTLED, batched, pending_keys, without_attempt
from ..models import IndexingAttempt

logger = logging.getLogger("django_visual_search")

POLL_SECONDS = 0.1
ANSWER_SECONDS = 1.0
"""Seconds in which workers must name their queues."""
SENT_AHEAD = 2
"""Batches per worker process: the next one waits at the worker, and a picture that is saved now waits behind few."""


def worker_processes() -> int:
    """Return how many processes take tasks from our queue, of the workers that answer within a second or two."""
    if current_app.conf.task_always_eager:
        return 0
    try:
        with connect(current_app) as connection:
            inspect = current_app.control.inspect(timeout=ANSWER_SECONDS, connection=connection)
            queues = inspect.active_queues() or {}
            names = [name for name, taken in queues.items() if any(queue["name"] == conf.QUEUE for queue in taken)]
            inspect.destination = names
            stats = (inspect.stats() or {}) if names else {}
    except Exception as e:
        logger.warning("visual search: the broker can't be asked for workers: %s", e)
        return 0
    return sum(stats.get(name, {}).get("pool", {}).get("max-concurrency", 1) for name in names)


def embed_by_workers(field: EmbeddingField, batch_size: int, processes: int) -> Generator[Outcome, None, None]:
    """Send pending pictures to the workers, ``batch_size`` a task; yield outcomes as tasks end.

    Ends when every picture was tried once, or when nothing has changed for ``LEASE_SECONDS``, as when a worker was
    killed. Pictures that are pending then may be sent again.
    """
    from ..tasks import embed

    started = timezone.now()
    batches = batched(pending_keys(field), batch_size)
    sent: set[Any] = set()
    moved_at = time.monotonic()
    while True:
        while len(sent) < SENT_AHEAD * processes * batch_size and (batch := next(batches, None)):
            if not enqueue(embed, field.label, [_key_as_text(field, key) for key in batch]):
                return
            sent.update(batch)
        if not sent or time.monotonic() - moved_at > conf.LEASE_SECONDS:
            return
        time.sleep(POLL_SECONDS)
        quarantine_lost(field)
        failed = Q(state=IndexingAttempt.State.FAILED, updated_at__gte=started)
        left = set(without_attempt(field, SETTLED | failed).filter(pk__in=sent).values_list("pk", flat=True))
        if len(left) < len(sent):
            moved_at = time.monotonic()
            yield _outcome(field, [_key_as_text(field, key) for key in sent - left], started)
            sent = left


def _key_as_text(field: EmbeddingField, key: Any) -> str:
    return key_text(field.target_model, key, router.db_for_write(field.model))


def _outcome(field: EmbeddingField, ids: list[str], started: datetime) -> Outcome:
    attempts = IndexingAttempt.objects.using(router.db_for_write(field.model))
    attempts = attempts.filter(label=field.label, object_id__in=ids, updated_at__gte=started)
    states = Counter(attempts.values_list("state", flat=True))
    outcome = Outcome(
        refused=states[IndexingAttempt.State.REFUSED],
        failed=states[IndexingAttempt.State.FAILED],
        quarantined=states[IndexingAttempt.State.QUARANTINED],
    )
    outcome.done = len(ids) - outcome.without_vector
    return outcome
