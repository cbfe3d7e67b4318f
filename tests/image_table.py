"""Print what each file of ``image_cases`` takes of a decoding process, as a search and as indexing decode it.

``python -m tests.image_table``: processor seconds, seconds on the clock, and the most memory, in a process of its
own.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django_visual_search.conf import conf  # noqa: E402
from django_visual_search.decoding.decoder import Decoder, decode_settings  # noqa: E402
from django_visual_search.decoding.pool import PATIENCE  # noqa: E402
from django_visual_search.images import ImageOptions  # noqa: E402

from .image_cases import CASES, EMBEDDED  # noqa: E402
from .image_files import encode, quadrants  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared/cases"


def main() -> None:
    files = {name: (make, code) for name, (make, code) in CASES.items()}
    for path in sorted(SHARED.glob("*.[ja]*")):
        files[path.name] = (path.read_bytes, "")
    print(f"| file | kB | outcome | {' | '.join(f'{way}: CPU s, wall s, MB' for way in ('search', 'indexing'))} |")
    print("|---|---|---|---|---|")
    worst = [0.0, 0.0, 0.0]
    for name, (make, expected) in files.items():
        data = make()
        cells, outcomes = [], set()
        for patience in (1, PATIENCE):
            outcome, *taken = measured(data, patience * conf.DECODE_SECONDS)
            outcomes.add(outcome)
            cells.append("{:.2f}, {:.2f}, {:.0f}".format(*taken))
            worst = [max(pair) for pair in zip(worst, taken, strict=True)]
        mark = "" if outcomes == {expected} or not expected else f" (expected: {expected})"
        print(f"| {name} | {len(data) // 1024} | {', '.join(outcomes)}{mark} | {' | '.join(cells)} |", flush=True)
    print("worst: {:.2f} s of processor, {:.2f} s, {:.0f} MB".format(*worst), file=sys.stderr)


def measured(data: bytes, wall: float) -> tuple[str, float, float, float]:
    decoder = Decoder()
    decoder.decode([lambda: encode(quadrants())], decode_settings(ImageOptions(), 32, wall))
    assert decoder.process is not None
    pid, before = decoder.process.pid, resource.getrusage(resource.RUSAGE_CHILDREN)
    used, started = processor_seconds(pid), time.perf_counter()
    [found] = decoder.decode([lambda: data], decode_settings(ImageOptions(), 224, wall))
    seconds = time.perf_counter() - started
    outcome = getattr(found, "code", type(found).__name__) if isinstance(found, Exception) else EMBEDDED
    peak = 0.0
    if decoder.process is not None and decoder.process.pid == pid:
        peak = next(int(r.split()[1]) for r in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in r)
        taken = processor_seconds(pid) - used
        decoder.stop()
    else:  # it ended, or was replaced
        decoder.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return outcome, taken, seconds, peak / 1024


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
