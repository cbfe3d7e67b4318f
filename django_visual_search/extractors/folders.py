"""Folders for models on this machine, which no other user may change.

Entry functions: ``private_folder``, ``check_folder``. A model is run: whoever may write it decides what every search
finds.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .base import ExtractorUnavailable

NAME = "django-visual-search"


def private_folder(folder: Path) -> Path:
    """Return the folder, made if need be; where anybody may write into it, a folder of this user's own in it.

    Raises ExtractorUnavailable for one that another user may change, OSError where it can't be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_open(folder):
        folder = folder / f"{NAME}-{os.getuid()}"
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
