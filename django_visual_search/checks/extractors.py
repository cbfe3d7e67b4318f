"""System checks of a field's extractor: it exists, takes its options, fits the field, and can run here."""

from __future__ import annotations

import copy
from pathlib import Path

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from ..extractors import ArtifactStore, Extractor
from ..fields import EmbeddingField
from ..spaces.extractors import extractor_of


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
