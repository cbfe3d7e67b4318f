"""The extractors of the setting ``EXTRACTORS``, one a process for each alias and width, and their models' storage.

Entry function: ``extractor_of``. An *artifact* is an exported or fine-tuned model in the database. Its copy on disk is
named after its sha256, and used only if it has that.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string
from platformdirs import user_cache_path

from ..conf import conf
from ..extractors import DirectoryStore, Extractor
from ..extractors.base import FOLDER_NAME, private_folder
from ..fields import EmbeddingField


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


class DatabaseStore:
    """An ``ArtifactStore`` over ``models.Artifact``."""

    @property
    def directory(self) -> Path:
        return cache_directory()

    def get(self, name: str) -> Path | None:
        from ..models import Artifact

        row = Artifact.objects.filter(name=name).only("sha256").first()
        return None if row is None else self._local(row)

    def put(self, name: str, data: bytes) -> Path:
        from ..models import Artifact

        # Not read back by name: that may ask a replica that does not have it yet.
        row, _ = Artifact.objects.get_or_create(name=name, defaults={"sha256": _sha256(data), "data": data})
        return self._local(row)

    def _local(self, row: Any) -> Path:
        """Return the copy on disk, made if it is absent or damaged. Raises RuntimeError for a damaged row."""
        if not re.fullmatch("[0-9a-f]{64}", row.sha256):
            raise RuntimeError(f"The artifact {row.name!r} in the database was changed: its sha256 is {row.sha256!r}.")
        cache = DirectoryStore(cache_directory())
        local = cache.get(row.sha256)
        if local is not None and _sha256(local.read_bytes()) == row.sha256:
            return local
        if local is not None:
            local.unlink(missing_ok=True)
        data = bytes(type(row).objects.using(row._state.db).values_list("data", flat=True).get(pk=row.pk))
        if _sha256(data) != row.sha256:
            raise RuntimeError(
                f"The artifact {row.name!r} in the database does not have its sha256: it was damaged. Delete its row "
                "in django_visual_search_artifact; the next worker with TensorFlow exports it again."
            )
        return cache.put(row.sha256, data)


def cache_directory() -> Path:
    """Return the folder of the copies: ``VISUAL_SEARCH["CACHE_DIR"]``, or one in the user's cache folder.

    Raises ExtractorUnavailable for one that other users may change.
    """
    if conf.CACHE_DIR:
        return private_folder(Path(conf.CACHE_DIR))
    try:
        return private_folder(user_cache_path(FOLDER_NAME, appauthor=False))
    except OSError:
        # A web server's user often has no writable home.
        return private_folder(Path(tempfile.gettempdir()))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
