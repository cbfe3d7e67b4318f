"""``python -m tests.benchmarks [--only a,b] [--rows N] [--photos N]``: prints a table and leaves nothing behind."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

PARTS = "abcdefghij"


def main() -> int:
    options = arguments()
    # Registered first, so that it runs last: after the server, which stops at exit too.
    folder = Path(tempfile.mkdtemp(prefix="visual-search-benchmarks-"))
    atexit.register(remove, folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ |= {
        "BENCHMARKS_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    import django

    django.setup()
    from . import tables
    from .report import Line, machine, show

    print(f"{machine()}; medians of sides measured in turn.")
    tables.create()
    for problem in tables.what_is_missing():
        print(problem)
    lines: list[Line] = []
    try:
        for part in options.only:
            start = time.monotonic()
            lines += measure(part, options)
            print(f"({part}) took {time.monotonic() - start:.0f} s; {machine()}", flush=True)
    finally:
        show(lines)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default=PARTS, help="letters of the parts to run, such as a,b (default: all)")
    parser.add_argument("--rows", type=int, default=100_000, help="rows with vectors in (d), a tenth of it in (e)")
    parser.add_argument("--photos", type=int, default=2000, help="pictures in (a), (b), (c), (f), (h) and (j)")
    options = parser.parse_args()
    options.only = [letter for letter in options.only if letter not in ", "]
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only: there is no part {', '.join(sorted(unknown))}")
    if options.rows < 10_000 or options.photos < 50:
        parser.error("--rows must be 10000 or more and --photos 50 or more: below that the ratios say little")
    return options


def measure(part: str, options: argparse.Namespace):
    from . import article, attack, load, object_search, photo_search, reindex, resident, similar, text_search, updates

    if part == "d":
        return similar.measure(options.rows)
    if part == "g":
        return load.measure()
    if part == "i":
        return attack.measure()
    if part == "e":
        return updates.measure(options.rows // 10)
    return {"a": reindex, "b": photo_search, "c": article, "f": resident, "h": object_search, "j": text_search}[
        part
    ].measure(options.photos)


def remove(folder: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are ending already
    # Where root's server can't live in the folder, its data is elsewhere, behind a link.
    shutil.rmtree((folder / "postgres").resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
