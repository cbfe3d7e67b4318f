"""The interface of an extractor, a frozen spec that is cheap to read and one batch call; and folders for its models."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..images import ImageOptions


class ExtractorUnavailable(RuntimeError):  # noqa: N818 - a state of this machine, like Http404
    """The extractor can't run here: a runtime, its weights or its exported model is missing.

    The text says what to do.
    """


@dataclass(frozen=True)
class ExtractorSpec:
    """The identity of a vector space. Reading it imports no ML runtime and touches no weights.

    Two vectors may be compared only if their specs have the same ``key``.
    """

    key: str
    """Names the vector space: lower-case letters, digits, ``.`` and ``-``, at most 64 characters, never a colon."""
    dimensions: int
    """Width of the vectors that a call returns."""
    input_size: int
    """Side in pixels of the square RGB pictures that a call takes."""
    images: ImageOptions = field(default_factory=ImageOptions)
    """The preparation of a picture before the call (part of the key)."""


class ArtifactStore(Protocol):
    """A place for exported models. Names don't depend on the content; bytes are checked against their sha256.

    One may have a ``directory``, a folder on this machine for files that any process can make.
    """

    def get(self, name: str) -> Path | None:
        """Return a local file with the artifact's bytes, or None if there is no such artifact."""

    def put(self, name: str, data: bytes) -> Path:
        """Keep the bytes under that name (the first writer wins) and return a local file with them."""


class DirectoryStore:
    """Artifacts as files in one folder, written atomically: several processes may share it.

    ``get`` and ``put`` raise ExtractorUnavailable where other users could change the folder's files, and ValueError for
    a name that no file in it can have.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def get(self, name: str) -> Path | None:
        path = self._path(name)
        return path if path.is_file() else None

    def put(self, name: str, data: bytes) -> Path:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(name)
        if not path.is_file():
            handle, temporary = tempfile.mkstemp(dir=self.directory)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)  # web and worker may be different users
            os.replace(temporary, path)
        return path

    def _path(self, name: str) -> Path:
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not the name of an artifact.")
        check_folder(self.directory)
        return self.directory / name


class Extractor(ABC):
    """Turns batches of pictures into unit vectors.

    Subclasses take their OPTIONS as keyword arguments. ``dimensions`` is the width of the field's vectors; None means
    the extractor's own. ``artifacts`` is where exported models are kept; ``images`` overrides preprocessing
    options by name. Construction is cheap (no ML import, no file read); the first call loads what it needs, once per
    process.
    """

    loaded_in: int | None = None
    """Id of the process in which indexing has called this extractor once."""

    def __init__(
        self,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.artifacts = artifacts
        self.image_options = ImageOptions(**(images or {}))

    @property
    @abstractmethod
    def spec(self) -> ExtractorSpec:
        """The description of this extractor's vector space."""

    @abstractmethod
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed ``images``, uint8 ``(n, s, s, 3)`` RGB with ``s == spec.input_size``.

        Returns float32 ``(n, spec.dimensions)`` with L2-normalised rows. Raises ExtractorUnavailable if it can't run
        here.
        """

    has_text_tower: bool = False
    """Whether ``embed_text`` embeds texts in the space of the pictures."""

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts near the pictures that they describe: float32 ``(n, spec.dimensions)``, rows of unit length.

        For extractors with a text tower. Raises ExtractorUnavailable if it can't run here.
        """
        raise NotImplementedError(f"{type(self).__name__} has no text tower.")

    def missing(self) -> str | None:
        """Return why this extractor can't run here and what to do, or None. Must not import heavy runtimes."""
        return None

    def export_needed(self) -> str | None:
        """Return what to run where the next call would export a model first, which takes minutes; else None.

        A photo search raises ExtractorUnavailable with it: only commands and workers export.
        """
        return None


def digest(*parts: object) -> str:
    """Return twelve hex digits of the sha256 over the parts' ``repr``; for ``ExtractorSpec.key``."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:12]


def l2_normalise(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the rows scaled to unit length, float32; rows of length zero stay zero (indexing refuses those)."""
    # The same numbers as by np.linalg.norm and np.where, in half the time that those take for the one row of a search.
    norms = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    norms[norms == 0] = 1
    return np.asarray(vectors / norms, dtype=np.float32)


# Folders for models: a model is run, so whoever may write it decides what every search finds.

FOLDER_NAME = "django-visual-search"


def private_folder(folder: Path) -> Path:
    """Return the folder, made if need be; where anybody may write into it, a folder of this user's own in it.

    Raises ExtractorUnavailable for one that another user may change, OSError where it can't be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_open(folder):
        folder = folder / f"{FOLDER_NAME}-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Raise ExtractorUnavailable for a folder that another user than its owner and root may have made or may change."""
    problem = _folder_problem(folder.absolute()) or _folder_problem(folder.resolve())
    if problem:
        raise ExtractorUnavailable(
            f"Models are not kept in {folder}, for another user could put their own there: {problem}. Name a folder of "
            'this user\'s own in VISUAL_SEARCH["CACHE_DIR"].'
        )


def _folder_problem(folder: Path) -> str | None:
    if folder.exists() and _is_open(folder):
        return "everybody may write into it"
    # In a folder like /tmp anybody may make the next one, or a link in its place.
    for path in (folder, *folder.parents[:-1]):
        if _is_open(path.parent):
            try:
                owner = path.lstat().st_uid
            except FileNotFoundError:
                continue
            if owner not in (0, os.getuid()):
                return f"{path} belongs to user {owner}"
    return None


def _is_open(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
