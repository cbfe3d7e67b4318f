"""Find the Python that runs decoding processes: entry function ``python_command``."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ..extractors import ExtractorUnavailable

ROOT = Path(__file__).resolve().parents[2]
"""The folder that this package is imported from."""

LAUNCH = "import sys; sys.path += sys.argv[2:]; from django_visual_search.decoding.child import main; main()"


def python_command(memory_mb: int) -> list[str]:
    """Return the command of a decoding process that may take so much memory. Raises ExtractorUnavailable.

    Modules that this process finds are found there too, after Python's own: a server may have its own way to extend
    the path.
    """
    path = [str(ROOT), *(entry for entry in sys.path if entry)]
    return [_python(), "-P", "-c", LAUNCH, str(memory_mb), *dict.fromkeys(path)]


def _python() -> str:
    for candidate in _candidates():
        if Path(candidate).name.lower().startswith(("python", "pypy")) and os.access(candidate, os.X_OK):
            return candidate
    raise ExtractorUnavailable(
        f"There is no Python to decode pictures with: this process runs in {sys.executable or 'another program'}, and "
        f"{sys.prefix} has none."
    )


def _candidates() -> Iterator[str]:
    """Yield paths: in uWSGI, mod_wsgi and programs that embed Python, ``sys.executable`` is that program or empty."""
    yield sys.executable or ""
    names = f"python{sys.version_info.major}.{sys.version_info.minor}", "python3", "python"
    for folder in (f"{sys.exec_prefix}/bin", f"{sys.prefix}/bin", f"{sys.base_exec_prefix}/bin"):
        yield from (f"{folder}/{name}" for name in names)
    yield f"{sysconfig.get_config_var('BINDIR')}/{names[0]}"
    yield shutil.which(names[0]) or ""
