"""System checks of a field's extractor: it exists, takes its options, fits the field, and can run here."""

from __future__ import annotations

import copy
from pathlib import Path

from django.core import checks

from .backends import extractor_of
from .fields import EmbeddingField


def check_extractor(field: EmbeddingField) -> list[checks.CheckMessage]:
    """The field's extractor can be constructed (which imports no ML runtime and reads no weights)."""
    try:
        extractor_of(field)
    except Exception as e:  # a backend's module and its constructor may fail in any way
        return [
            checks.Error(
                f"Extractor {field.extractor!r} can't be used: {e}",
                hint=(
                    f"Write VISUAL_SEARCH['EXTRACTORS'][{field.extractor!r}] = {{'BACKEND': 'path.to.Extractor', 'OPTIONS': {{...}}}}, "
                    "or another extractor= on the field."
                ),
                obj=field,
                id="visual_search.E010",
            )
        ]
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


class _StoreAsked(Exception):
    """Only the database knows whether the model has been exported."""


class _NoStore:
    def get(self, name: str) -> Path | None:
        raise _StoreAsked

    def put(self, name: str, data: bytes) -> Path:
        raise _StoreAsked


def check_runtime(field: EmbeddingField) -> list[checks.CheckMessage]:
    """The extractor can run here, as far as that can be told without asking the database for an exported model."""
    extractor = copy.copy(extractor_of(field))
    extractor.artifacts = _NoStore()
    try:
        return missing_runtime(field, extractor.missing())
    except _StoreAsked:
        return []


def missing_runtime(field: EmbeddingField, problem: str | None) -> list[checks.CheckMessage]:
    """The warning for what ``Extractor.missing()`` says."""
    if problem is None:
        return []
    return [checks.Warning(f"Extractor {field.extractor!r} can't run here.", hint=problem, id="visual_search.W002")]
