"""Pictures that staff want embedded again: marked in the database at once, then sent to the workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import current_app
from django.contrib import messages
from django.db import connections, router, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..conf import conf
from ..fields import EmbeddingField
from ..indexing import mark_stale
from ..indexing.batches import batched
from ..indexing.publishing import enqueue
from ..tasks import embed

MARKED_TOGETHER = 500
MOST_SENT = 2000
"""Pictures of one request that go to the queue: what a shop saves meanwhile waits behind them. The sweep does more."""


@dataclass
class Sent:
    """What became of a wish to embed pictures again. Those that were not sent are found by the sweep."""

    pictures: int = 0
    sent: int = 0
    refused_by_broker: bool = False

    def add(self, other: Sent) -> None:
        self.pictures += other.pictures
        self.sent += other.sent
        self.refused_by_broker = self.refused_by_broker or other.refused_by_broker


def send(field: EmbeddingField, keys: list[Any], most: int = MOST_SENT) -> Sent:
    """Mark the pictures with these primary keys as stale, with new attempts, and send the first ``most`` of them.

    Inside a transaction they are sent after its commit, and count as sent.
    """
    for batch in batched(keys, MARKED_TOGETHER):
        mark_stale(field, batch)
    using = router.db_for_write(field.model)
    first = [str(key) for key in keys[: max(most, 0)]]
    result = Sent(len(keys))
    publish = partial(_publish, field, first, result)
    if connections[using].in_atomic_block:
        transaction.on_commit(publish, using=using, robust=True)
        result.sent = len(first)
    else:
        publish()
    return result


def _publish(field: EmbeddingField, keys: list[str], result: Sent) -> None:
    result.sent = 0
    for batch in batched(keys, conf.BATCH_SIZE):
        if not enqueue(embed, field.label, list(batch)):
            result.refused_by_broker = True
            return
        result.sent += len(batch)


def tell(request: HttpRequest, result: Sent) -> None:
    """Say what was done as a message of the admin."""
    if current_app.conf.task_always_eager:
        text = ngettext(
            "%(count)d picture was worked on here and now; its status says what came of it.",
            "%(count)d pictures were worked on here and now; their status says what came of it.",
            result.sent,
        )
    else:
        text = ngettext(
            "%(count)d picture was sent to be embedded again.",
            "%(count)d pictures were sent to be embedded again.",
            result.sent,
        )
    said = [text % {"count": result.sent}] if result.sent else []
    left = result.pictures - result.sent
    if result.refused_by_broker:
        said.append(_("The message broker does not answer."))
    if left:
        text = ngettext(
            "%(count)d picture is marked, and the next sweep embeds it (one is due every %(seconds)d seconds).",
            "%(count)d pictures are marked, and the next sweep embeds them (one is due every %(seconds)d seconds).",
            left,
        )
        said.append(text % {"count": left, "seconds": conf.SWEEP_SECONDS})
    level = messages.WARNING if result.refused_by_broker else messages.SUCCESS
    messages.add_message(request, level, " ".join(said), fail_silently=True)
