"""System checks of what was learned: its settings, and whether the head that serves goes with the extractor."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ..conf import DEFAULTS
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..models import ServingSpace
from ..spaces.heads import extractor_of_space
from ..spaces.serving import serving


def check_learning() -> list[checks.CheckMessage]:
    """``FEATURE_CACHE_ROWS`` is a number of pictures and ``MIN_CONFIDENCE`` a probability, or None."""
    user = getattr(settings, "VISUAL_SEARCH", {})
    rows, sure = (user.get(key, DEFAULTS[key]) for key in ("FEATURE_CACHE_ROWS", "MIN_CONFIDENCE"))
    messages = []
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
        usual = DEFAULTS["FEATURE_CACHE_ROWS"]
        hint = f"Write how many pictures of a field features are kept of, 0 for none; the default is {usual}."
        messages.append(_error(23, f"VISUAL_SEARCH['FEATURE_CACHE_ROWS'] is {rows!r}.", hint))
    if sure is not None and (isinstance(sure, bool) or not isinstance(sure, int | float) or not 0 <= sure <= 1):
        hint = "Write a number from 0 to 1, such as 0.5, or None to show hits of any confidence."
        messages.append(_error(24, f"VISUAL_SEARCH['MIN_CONFIDENCE'] is {sure!r}.", hint))
    return messages


def check_serving(field: EmbeddingField, alias: str) -> list[checks.CheckMessage]:
    """The head or extractor that ``switch_embedding`` let serve can still be made from the settings."""
    if ServingSpace._meta.db_table not in connections[alias].introspection.table_names():
        return []  # before the first migrate
    messages: list[checks.CheckMessage] = []
    for space in serving(field).live:
        try:
            extractor_of_space(field, space)
        except (ExtractorUnavailable, ImproperlyConfigured) as e:
            hint = "Photo searches and indexing fail, or reach only some of the products, until that is mended."
            messages.append(
                checks.Warning(f"What serves {field.label} can't be made: {e}", hint=hint, id="visual_search.W009")
            )
    return messages


def _error(number: int, message: str, hint: Any) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, id=f"visual_search.E{number:03}")
