"""(i) Ordinary photo searches and *similar items* on gunicorn with two processes, idle and under attack.

The attack: four clients that send photos made to hurt, each from another address.
``python -m tests.benchmarks.attack ADDRESS SECONDS`` is those clients.
"""

from __future__ import annotations

import contextlib
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

from tests import load
from tests.example import ROOT, make_example
from tests.image_files import many_scans, png

from .load import remove
from .report import Line, at_most, machine

PRODUCTS, THREADS, BOMBERS = 60, 8, 4
SEARCHES, PAUSE = 15, 1.0
"""Ordinary photo searches of a round, and seconds from one to the next."""
ROUNDS = 2
REFUSED, SLOWER = 3, 2
"""The aims: most seconds until an ordinary search is served, and *similar items* beside an attack by those without."""


def bombs() -> list[bytes]:
    """Return bodies of photos that take about half a second of processor time each, the most that is accepted."""
    return [load.multipart(photo) for photo in (many_scans(50), png(7240, 7240, 8, 6))]


def measure(rounds: int = ROUNDS) -> list[Line]:
    shop = make_example()
    try:
        keys = load.stock(shop, PRODUCTS)
        photo = next((shop.state / "media" / "products").iterdir())
        settings = {"DEBUG": "0", "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "*"}
        idle, attacked = [], []
        with load.gunicorn(shop, workers=2, threads=THREADS, **settings) as address:
            load.upload_all(address, photo, 8, 60)
            load.similar_items(address, keys, lambda count: count >= 60)
            for i in range(rounds):
                idle.append(_round(address, keys, photo, 2 * i))
                with _attack(address, SEARCHES * PAUSE + 30) as bombers:
                    time.sleep(1)
                    attacked.append(_round(address, keys, photo, 2 * i + 1))
                    bombers.send_signal(signal.SIGINT)
                    print(f"idle: {_said(idle[-1])}; attacked: {_said(attacked[-1])}; {machine()}")
        return _lines(idle, attacked)
    finally:
        remove(shop)


def _attack(address: str, seconds: float) -> subprocess.Popen:
    # Their own work is done elsewhere in the world.
    return subprocess.Popen(["nice", "-n", "19", sys.executable, "-m", __name__, address, str(seconds)], cwd=ROOT)


def _round(address: str, keys: list[int], photo: Path, seed: int) -> tuple[list[float], list[tuple[int, float]]]:
    """Return milliseconds of similar items, and of each ordinary search the number of tries and seconds in all."""
    searches: list[tuple[int, float]] = []
    body = load.multipart(photo.read_bytes())
    ordinary = threading.Thread(target=lambda: searches.extend(_ordinary(address, body, seed)))
    ordinary.start()
    similar = load.similar_items(address, keys, lambda count: not ordinary.is_alive(), seed, pause=0.02)
    ordinary.join()
    return similar, searches


def _ordinary(address: str, body: bytes, seed: int):
    for number in range(SEARCHES):
        begun, tries, status = time.monotonic(), 0, 0
        while status != 200:
            status, said, _ = load.post_photo(address, body, 100 * seed + number)
            tries += 1
            if status != 200:
                assert status in (429, 503), status
                time.sleep(float(said["Retry-After"]))
        taken = time.monotonic() - begun
        yield tries, taken
        time.sleep(max(0, PAUSE - taken))


def _said(measured) -> str:
    similar, searches = measured
    tries = Counter(tries for tries, _ in searches)
    return (
        f"similar p50 {statistics.median(similar):.1f}, p95 {load.p95(similar):.1f} ms of {len(similar)}; "
        f"photos: tries {dict(tries)}, median {statistics.median(taken for _, taken in searches):.2f}, "
        f"slowest {max(taken for _, taken in searches):.2f} s"
    )


def _lines(idle: list, attacked: list) -> list[Line]:
    p95 = [load.p95([taken for similar, _ in side for taken in similar]) for side in (idle, attacked)]
    photos = [photo for _, searches in attacked for photo in searches]
    slowest, once = max(taken for _, taken in photos), sum(tries == 1 for tries, _ in photos)
    about = f"gunicorn, 2 processes of {THREADS} threads, {BOMBERS} clients with photos made to hurt"
    return [
        Line(
            "i",
            "photo search under attack, slowest in s",
            **at_most(slowest, REFUSED),
            detail=f"{once} of {len(photos)} served at the first try; {about}",
        ),
        Line(
            "i",
            "similar items under attack / idle, p95",
            **at_most(p95[1] / p95[0], SLOWER),
            detail=f"{p95[1]:.0f} of {p95[0]:.0f} ms",
        ),
    ]


def main() -> None:
    """Send bombs from ever new addresses until the time is over, at once after each response."""
    address = sys.argv[1]
    bodies, statuses = bombs(), Counter()

    def send(seed: int) -> None:
        chance = random.Random(seed)
        for body in cycle(bodies):
            status, *_ = load.post_photo(address, body, chance.getrandbits(24))
            statuses[status] += 1

    for seed in range(BOMBERS):
        threading.Thread(target=send, args=(seed,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(float(sys.argv[2]))
    print(f"bombers got {dict(statuses)}")


if __name__ == "__main__":
    main()
