"""The log of searches: one row per search that a person makes, written after the response."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from asgiref.local import Local
from django.core.signals import request_finished
from django.db import connections, router, transaction
from django.dispatch import receiver
from django.utils import timezone

from ..conf import conf
from ..models import SearchLog
from ..search import SearchResults
from .sessions import session_of

logger = logging.getLogger("django_visual_search")

MOST_WAITING = 100
"""Most rows kept until the request ends; in a script that builds its own requests, that never happens."""

_unwritten = Local()


def log_search(results: SearchResults, milliseconds: float, request: Any = None, surface: Any = "") -> None:
    """Log a search. The row is written after the response; without a request, at once.

    ``surface``: where the person searched, of ``SearchLog.Surface``; empty where that is unknown.
    A page that continues a search (``search.next_page``) is not a search. Nothing happens where
    ``VISUAL_SEARCH["LOG_SEARCHES"]`` is off. If a row can't be written, a warning is
    logged; no error is raised.
    """
    ranking = results.ranking
    if not conf.LOG_SEARCHES or ranking.shown > len(results.hits):
        return
    row = SearchLog(
        id=uuid.UUID(ranking.search),
        created_at=timezone.now(),
        label=ranking.label,
        kind=ranking.query_kind,
        surface=surface,
        query_id=ranking.query_id,
        extractor_key=ranking.extractor_key,
        results=len(ranking.places),
        best_similarity=max((place.similarity for place in ranking.places), default=None),
        exact=ranking.exact,
        milliseconds=milliseconds,
        vector=results.vector if conf.LOG_VECTORS else None,
    )
    if request is None:
        _write([(row, None)])
        return
    rows = _waiting_rows()
    rows.append((row, request))
    if len(rows) >= MOST_WAITING:
        _write_waiting()


@receiver(request_finished, dispatch_uid="django_visual_search.write_searches")
def write_searches(**kwargs: Any) -> None:
    """Write the searches of the request that ends on this thread."""
    if _waiting_rows():
        _write_waiting()
        # Django has already closed its connections; writing reopened one. Inside a transaction it stays open, for
        # example when a test client makes the request.
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()


def _waiting_rows() -> list[tuple[SearchLog, Any]]:
    if not hasattr(_unwritten, "rows"):
        _unwritten.rows = []
    rows: list[tuple[SearchLog, Any]] = _unwritten.rows
    return rows


def _write_waiting() -> None:
    rows = list(_waiting_rows())
    _waiting_rows().clear()
    _write(rows)


def _write(rows: list[tuple[SearchLog, Any]]) -> None:
    try:
        for row, request in rows:
            if request is not None:
                row.session = session_of(request, row.created_at)
        with transaction.atomic(using=router.db_for_write(SearchLog)):
            SearchLog.objects.bulk_create([row for row, _ in rows], ignore_conflicts=True)
    except Exception:
        logger.warning("visual search: %d searches could not be logged", len(rows), exc_info=True)
