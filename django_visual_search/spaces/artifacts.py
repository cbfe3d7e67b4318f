"""Artifacts in the database, cached on this machine's disk: every process finds what one of them exported.

Entry function: ``DatabaseStore``. An *artifact* is an exported or fine-tuned model; a copy on disk is named after its
sha256, and used only if it has that.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ..conf import conf
from ..extractors import DirectoryStore
from ..extractors.folders import NAME, private_folder


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
        return private_folder(user_cache_path(NAME, appauthor=False))
    except OSError:
        # A web server's user often has no writable home.
        return private_folder(Path(tempfile.gettempdir()))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
