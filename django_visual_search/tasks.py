"""Celery tasks: plain-data arguments, ordinary functions behind them."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task

from . import indexing
from .indexing.sweep import sweep_seconds
from .registry import embedding_fields, get_field

logger = logging.getLogger("django_visual_search")


@shared_task(name="django_visual_search.embed", ignore_result=True)
def embed(label: str, keys: list[str]) -> None:
    """Embed the rows with these primary keys (of the model that has the picture) that are stale."""
    field = get_field(label)
    to_python = field.target_model._meta.pk.to_python
    for report in indexing.embed(field, [to_python(key) for key in keys]):
        _log(label, report)


@shared_task(name="django_visual_search.sweep", ignore_result=True)
def sweep() -> None:
    """Find and embed what is stale in every field; for Celery beat, every ``SWEEP_SECONDS``."""
    for field in embedding_fields():
        _log(field.label, indexing.sweep(field, seconds=sweep_seconds()))


def _log(label: str, report: Any) -> None:
    if report.refused or report.failed or report.quarantined:
        logger.warning("visual search: %s: %s", label, report)
