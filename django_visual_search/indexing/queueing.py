"""A reindex by the Celery workers: sends everything that is pending, then watches the database until it is through."""

from __future__ import annotations

import time
from collections.abc import Iterator

from celery import current_app

from ..conf import conf
from ..fields import EmbeddingField
from ..models import IndexingAttempt
from .claims import quarantine_lost
from .pipeline import Report
from .stale import pending, stale
from .sweep import pending_keys

POLL_SECONDS = 1.0


def has_workers() -> bool:
    """Whether a worker that takes tasks from our queue answers within two seconds."""
    if current_app.conf.task_always_eager:
        return False
    try:
        queues = current_app.control.inspect(timeout=1.0).active_queues() or {}
    except Exception:
        return False
    return any(queue["name"] == conf.QUEUE for active in queues.values() for queue in active)


def embed_by_workers(field: EmbeddingField, batch_size: int) -> Iterator[Report]:
    """Send batches to the workers and report what they have finished since the last look, until nothing is pending.

    What gets lost on the way (a killed worker, a broker restart) is sent again once its lease has ended.
    """
    from ..tasks import embed

    before = _counts(field)
    while True:
        batch: list[str] = []
        for key in pending_keys(field):
            batch.append(str(key))
            if len(batch) == batch_size:
                embed.apply_async((field.label, batch), queue=conf.QUEUE)
                batch = []
        if batch:
            embed.apply_async((field.label, batch), queue=conf.QUEUE)
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 2 * conf.LEASE_SECONDS:
            time.sleep(POLL_SECONDS)
            quarantine_lost(field)
            now = _counts(field)
            if now != before:
                quiet_since = time.monotonic()
                done = before["stale"] - now["stale"] - 0
                yield Report(
                    done=max(0, done),
                    refused=max(0, now["refused"] - before["refused"]),
                    quarantined=max(0, now["quarantined"] - before["quarantined"]),
                )
                before = now
            if not now["open"]:
                return
        if not pending(field).exists():
            return


def _counts(field: EmbeddingField) -> dict[str, int]:
    attempts = IndexingAttempt.objects.filter(label=field.label)
    settled = {state: attempts.filter(state=state).count() for state in ("refused", "quarantined")}
    left = stale(field).count()
    return {"stale": left, **settled, "open": left - sum(settled.values())}
