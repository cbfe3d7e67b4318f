"""Celery tasks: plain arguments, and ordinary functions that do the work."""

from __future__ import annotations

import contextlib
import io
import logging
import time

from celery import shared_task
from celery.signals import worker_process_shutdown
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import router

from . import feedback, findability, indexing
from .conf import conf
from .db.rows import key_from_text
from .decoding.pool import close_pool
from .extractors import ExtractorUnavailable
from .feedback.privacy import purge_some
from .fields.registry import embedding_fields, get_field
from .spaces.live import forget_live_spaces

logger = logging.getLogger("django_visual_search")

LONGEST_SWEEP = 10
"""Longest sweep of one field, in ``SWEEP_SECONDS``."""

# A child that is asked to end (max-tasks-per-child, a warm shutdown) runs no atexit functions.
worker_process_shutdown.connect(close_pool, weak=False, dispatch_uid="django_visual_search.close_pool")


@shared_task(name="django_visual_search.embed", ignore_result=True)
def embed(label: str, keys: list[str], replaced: bool = False, new_file: str = "") -> None:
    """Embed the rows with these primary keys (of the model that has the picture) that are stale.

    ``replaced``: all of them are marked as stale first, for their files may be new under the same name. ``new_file``:
    the name under which one was stored for them; other rows may have had another file of that name.
    """
    field = get_field(label)
    using = router.db_for_write(field.model)
    rows = [key_from_text(field.target_model, key, using) for key in keys]
    if replaced:
        indexing.mark_stale(field, rows)
    if new_file:
        rows += indexing.mark_overwritten(field, new_file, rows)
    with contextlib.closing(indexing.embed(field, rows)) as outcomes:
        for outcome in outcomes:
            _log_outcome(label, outcome)


@shared_task(name="django_visual_search.sweep", ignore_result=True)
def sweep() -> None:
    """Embed stale pictures of every field, then count new feedback; for Celery beat, every ``SWEEP_SECONDS``."""
    for field in embedding_fields():
        try:
            _log_outcome(field.label, indexing.sweep(field, seconds=LONGEST_SWEEP * conf.SWEEP_SECONDS))
        except (ExtractorUnavailable, ImproperlyConfigured) as e:
            # Another field may have an extractor that runs here.
            logger.error("visual search: %s can't be embedded here: %s", field.label, e)
        except Exception:
            logger.exception("visual search: the sweep of %s stopped; the next one goes on", field.label)
    try:
        aggregate()
    except Exception:
        logger.exception("visual search: feedback could not be counted; the next sweep tries again")


@shared_task(name="django_visual_search.aggregate", ignore_result=True)
def aggregate() -> None:
    """Count new feedback into the evidence that rankers read, and delete some of the expired data."""
    feedback.aggregate()
    purge_some()


@shared_task(name="django_visual_search.check_findability", ignore_result=True)
def check_findability(label: str) -> None:
    """Look for a field's products that can't be found, and store them, unless such a check is running."""
    if findability.running(label):
        logger.info("visual search: %s is being checked already", label)
        return
    found = findability.check(get_field(label))
    logger.info("visual search: %s: %d products checked", label, found.products)


@shared_task(name="django_visual_search.move_vectors", ignore_result=True)
def move_vectors(label: str, seconds: float = 0.0) -> None:
    """Move a field's vectors to the serving space, ``seconds`` from now, and end the switch.

    The other workers and the sweep share the work; where this ends early, the sweep goes on with it.
    """
    field = get_field(label)
    if seconds > 0:
        time.sleep(seconds + 0.1)  # until every process searches both spaces
    forget_live_spaces()
    with contextlib.suppress(CommandError):  # pictures without a vector: the page names them
        call_command("reindex_embeddings", label, sync=True, stdout=io.StringIO(), stderr=io.StringIO())
    indexing.end_switch(field)


def _log_outcome(label: str, outcome: indexing.Outcome) -> None:
    if outcome.without_vector:
        logger.warning("visual search: %s: %s", label, outcome)
