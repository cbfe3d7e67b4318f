"""(f) Memory of a web process that has answered both kinds of query. Also the program of that process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def measure(photos: int):
    from .reindex import embedded_catalogue
    from .report import Line, at_most

    path = embedded_catalogue(photos)[0]
    answer = subprocess.run(
        [sys.executable, "-m", __name__, str(path)], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    ).stdout
    seen = json.loads(answer.splitlines()[-1])
    tensorflow = "imported" if seen["tensorflow"] else "not imported"
    detail = (
        f"{seen['before']:.0f} MB after django.setup(), {seen['after']:.0f} MB after {seen['queries']} queries, "
        f"at most {seen['peak']:.0f} MB; TensorFlow {tensorflow}"
    )
    line = Line("f", "MB resident in a web process / 200", **at_most(seen["after"] / 200, 1), detail=detail)
    line.met = line.met and not seen["tensorflow"]
    return [line]


def answer_queries(photo: Path) -> None:
    """Print what this process takes before and after queries of both kinds."""
    import django

    django.setup()
    from django_visual_search import search

    from .models import Photographed
    from .pictures import FIELD

    before = memory("VmRSS")
    data, product = photo.read_bytes(), Photographed.objects.order_by("pk")[0]
    found = 0
    for _ in range(20):
        found += len(search.search_by_image(data, FIELD)) + len(search.similar_to(product))
    if found != 20 * 2 * 12:
        raise SystemExit(f"{found} hits instead of {20 * 2 * 12}")
    seen = {"before": before, "after": memory("VmRSS"), "peak": memory("VmHWM"), "queries": 40}
    print(json.dumps(seen | {"tensorflow": "tensorflow" in sys.modules}))


def memory(name: str) -> float:
    """Megabytes of this process, by a line of /proc."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    answer_queries(Path(sys.argv[1]))
