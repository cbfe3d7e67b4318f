"""Train a backbone and export it, in a process of its own that ``launch.py`` starts: ``-m … REQUEST``, a JSON file.

Standard input is the lifeline: it carries nothing, and ends with the parent process; then this process ends too.
Standard output has a JSON string for people on each line. The exit code is 0 if ``request["output"]`` and
``request["result"]`` were written; otherwise ``request["report"]`` may say why, as in ``extractors.build``.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from pathlib import Path

from ...extractors import build
from . import checkpoint
from .run import FinetuneRun

PATIENCE_SECONDS = 30
"""Wait so long for another process that trains in the same folder."""


def end_with(parent: int) -> None:
    """End this process at once when its parent has ended, even by SIGKILL."""

    def watch() -> None:
        while not select.select([sys.stdin], [], [], 1)[0] and os.getppid() == parent:
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    request = json.loads(Path(sys.argv[1]).read_text())
    end_with(request["parent"])

    def work() -> None:
        with checkpoint.alone(Path(request["checkpoint"]).with_suffix(".lock"), PATIENCE_SECONDS):
            build.prepare()
            run = FinetuneRun(request)
            run.start_or_resume()
            run.epochs()
            run.export()

    return build.reported(request, work)


if __name__ == "__main__":
    sys.exit(main())
