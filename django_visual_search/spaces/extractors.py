"""The extractors of the setting ``EXTRACTORS``: one a process for each alias and width.

Entry function: ``extractor_of``.
"""

from __future__ import annotations

import functools
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from ..conf import conf
from ..extractors import Extractor
from ..fields import EmbeddingField
from .artifacts import DatabaseStore


@functools.cache
def get_extractor(alias: str = "default", dimensions: int | None = None) -> Extractor:
    """Return the extractor ``alias`` of ``VISUAL_SEARCH["EXTRACTORS"]``, giving vectors of that width.

    Cheap: an extractor loads nothing before its first call. Raises ImproperlyConfigured for an unknown alias, a backend
    that can't be imported, and options that it refuses.
    """
    extractors: dict[str, Any] = conf.EXTRACTORS
    if alias not in extractors:
        raise ImproperlyConfigured(
            f"There is no extractor {alias!r} in VISUAL_SEARCH['EXTRACTORS']; "
            f"there are: {', '.join(sorted(extractors)) or 'none'}."
        )
    entry = extractors[alias]
    try:
        backend = import_string(entry["BACKEND"])
    except (KeyError, ImportError) as e:
        raise ImproperlyConfigured(
            f"VISUAL_SEARCH['EXTRACTORS'][{alias!r}]['BACKEND'] must be the dotted path of an Extractor class: {e}"
        ) from e
    options = {"artifacts": DatabaseStore(), **entry.get("OPTIONS", {})}
    try:
        extractor: Extractor = backend(dimensions=dimensions, **options)
        extractor.spec  # noqa: B018 - options that contradict each other show up here
    except (TypeError, ValueError) as e:
        raise ImproperlyConfigured(f"VISUAL_SEARCH['EXTRACTORS'][{alias!r}]['OPTIONS']: {e}") from e
    return extractor


def extractor_of(field: EmbeddingField) -> Extractor:
    """Return the extractor that the field names, without any head."""
    return get_extractor(field.extractor, field.dimensions)


@receiver(setting_changed)
def forget_extractors(*, setting: str, **kwargs: Any) -> None:
    if setting == "VISUAL_SEARCH":
        get_extractor.cache_clear()
