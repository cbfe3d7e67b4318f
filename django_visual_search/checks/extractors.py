"""System checks of a field's extractor: constructible, as wide as the field, able to run here, able to serve."""

from __future__ import annotations

import copy
from pathlib import Path

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from ..extractors import ArtifactStore, Extractor, ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.checks import problem
from ..models import ServingSpace
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space
from ..spaces.live import live_spaces


def check_extractor(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Report an extractor that can't be constructed. Construction imports no ML runtime and reads no weights."""
    alias = field.extractor
    try:
        extractor_of(field)
    except Exception as e:  # a backend's module and its constructor may fail in any way
        fault = str(e) if isinstance(e, ImproperlyConfigured) else f"{type(e).__name__}: {e}"
        hint = (
            f"Write VISUAL_SEARCH['EXTRACTORS'][{alias!r}] = {{'BACKEND': 'path.to.Extractor', 'OPTIONS': {{...}}}}, "
            "or another extractor= on the field."
        )
        message = f"Extractor {alias!r} can't be used: {fault}"
        return [problem("E010", message, hint, field)]
    return []


def check_dimensions(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Report an extractor whose vectors differ in width from the column."""
    width = extractor_of(field).spec.dimensions
    if width == field.dimensions:
        return []
    message = f"'dimensions' is {field.dimensions}, but extractor {field.extractor!r} gives vectors of {width} numbers."
    hint = (
        f"Write dimensions={width} and make a migration, which empties the column, or choose another extractor. Sweeps "
        "or reindex_embeddings fill the column again."
    )
    return [problem("E011", message, hint, field)]


def check_runtime(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Warn of an extractor that can't run here, as far as can be seen without the database."""
    try:
        return _missing(field, _with_store(field, _UnknownStore()).missing())
    except _StoreAskedError:
        return []


def check_runtime_and_store(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Warn of an extractor that can't run here, or not in the web, even with an exported model from the database."""
    extractor = extractor_of(field)
    try:
        if advice := extractor.missing():
            return _missing(field, advice)
        advice = extractor.export_needed()
        message = f"Extractor {field.extractor!r} can't run in a web process yet: photo searches answer 503."
        return [problem("W002", message, advice)] if advice else []
    except DatabaseError:  # before the first migrate, when nothing has been exported either
        return _missing(field, _with_store(field, _EmptyStore()).missing())


def _missing(field: EmbeddingField, advice: str | None) -> list[checks.CheckMessage]:
    return [problem("W002", f"Extractor {field.extractor!r} can't run here.", advice)] if advice else []


def _with_store(field: EmbeddingField, store: ArtifactStore) -> Extractor:
    extractor = copy.copy(extractor_of(field))
    extractor.artifacts = store
    return extractor


class _StoreAskedError(Exception):
    """The answer is in the database only."""


class _EmptyStore:
    def get(self, name: str) -> Path | None:
        return None

    def put(self, name: str, data: bytes) -> Path:
        raise NotImplementedError  # a check exports nothing


class _UnknownStore(_EmptyStore):
    def get(self, name: str) -> Path | None:
        raise _StoreAskedError


def check_serving(field: EmbeddingField, alias: str) -> list[checks.CheckMessage]:
    """Warn where the settings no longer allow the head or extractor that ``switch_embedding`` made serve the field."""
    if ServingSpace._meta.db_table not in connections[alias].introspection.table_names():
        return []  # before the first migrate
    hint = "Until the settings are mended, photo searches and indexing fail, or reach only some of the products."
    messages = []
    for space in live_spaces(field).all:
        try:
            extractor_of_space(field, space)
        except (ExtractorUnavailable, ImproperlyConfigured) as e:
            messages.append(problem("W009", f"The extractor that serves {field.label} can't be constructed: {e}", hint))
    return messages
