"""System checks of a field's extractor: it exists, takes its options, fits the field, and can run here.

System checks of what was learned: its settings, and whether the head that serves goes with the extractor.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from ..conf import DEFAULTS
from ..extractors import ArtifactStore, Extractor, ExtractorUnavailable
from ..fields import EmbeddingField
from ..models import ServingSpace
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space
from ..spaces.serving import serving


def check_extractor(field: EmbeddingField) -> list[checks.CheckMessage]:
    """The field's extractor can be constructed (which imports no ML runtime and reads no weights)."""
    alias = field.extractor
    try:
        extractor_of(field)
    except Exception as e:  # a backend's module and its constructor may fail in any way
        problem = str(e) if isinstance(e, ImproperlyConfigured) else f"{type(e).__name__}: {e}"
        hint = (
            f"Write VISUAL_SEARCH['EXTRACTORS'][{alias!r}] = {{'BACKEND': 'path.to.Extractor', 'OPTIONS': {{...}}}}, "
            "or another extractor= on the field."
        )
        message = f"Extractor {alias!r} can't be used: {problem}"
        return [checks.Error(message, hint=hint, obj=field, id="visual_search.E010")]
    return []


def check_dimensions(field: EmbeddingField) -> list[checks.CheckMessage]:
    """The extractor gives vectors as wide as the column."""
    width = extractor_of(field).spec.dimensions
    if width == field.dimensions:
        return []
    return [
        checks.Error(
            f"'dimensions' is {field.dimensions}, but extractor {field.extractor!r} gives vectors of {width} numbers.",
            hint=f"Write dimensions={width} and make a migration, or choose another extractor.",
            obj=field,
            id="visual_search.E011",
        )
    ]


def check_runtime(field: EmbeddingField) -> list[checks.CheckMessage]:
    """The extractor can run here, as far as that can be told without asking the database for an exported model."""
    try:
        return _missing(field, _with_store(field, _UnknownStore()).missing())
    except _StoreAskedError:
        return []


def check_runtime_and_store(field: EmbeddingField) -> list[checks.CheckMessage]:
    """The extractor can run here; an exported model in the database is enough for that."""
    try:
        return _missing(field, extractor_of(field).missing())
    except DatabaseError:  # before the first migrate, when nothing has been exported either
        return _missing(field, _with_store(field, _EmptyStore()).missing())


def _missing(field: EmbeddingField, problem: str | None) -> list[checks.CheckMessage]:
    if problem is None:
        return []
    message = f"Extractor {field.extractor!r} can't run here."
    return [checks.Warning(message, hint=problem, id="visual_search.W002")]


def _with_store(field: EmbeddingField, store: ArtifactStore) -> Extractor:
    extractor = copy.copy(extractor_of(field))
    extractor.artifacts = store
    return extractor


class _StoreAskedError(Exception):
    """Only the database knows."""


class _EmptyStore:
    def get(self, name: str) -> Path | None:
        return None

    def put(self, name: str, data: bytes) -> Path:
        raise NotImplementedError  # a check exports nothing


class _UnknownStore(_EmptyStore):
    def get(self, name: str) -> Path | None:
        raise _StoreAskedError


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
