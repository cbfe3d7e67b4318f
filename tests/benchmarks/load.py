"""(g) *Similar items* on gunicorn with two processes, alone and while 200 photos are uploaded in parallel."""

from __future__ import annotations

import shutil
import statistics
import threading
from pathlib import Path

from tests import load
from tests.example import Example, make_example

from .report import Line, at_most

UPLOADS, THREADS, PRODUCTS = 200, 8, 200
IDLE = 300
"""Requests for similar items that are measured alone, before each round of uploads."""
PATIENCE = 240
"""Seconds for which who is told to come back does so."""


def measure(rounds: int = 3) -> list[Line]:
    shop = make_example()
    try:
        keys = load.stock(shop, PRODUCTS)
        photo = next((shop.state / "media" / "products").iterdir())
        settings = {"DEBUG": "0", "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "*"}
        with load.gunicorn(shop, workers=2, threads=THREADS, **settings) as address:
            _warm(address, keys, photo)
            return _lines([_round(address, keys, photo, i) for i in range(rounds)])
    finally:
        remove(shop)


def _warm(address: str, keys: list[int], photo: Path) -> None:
    for i in range(3):
        load.upload_all(address, photo, 8, PATIENCE)
        load.similar_items(address, keys, lambda count: count >= 30, seed=-i)


def _round(address: str, keys: list[int], photo: Path, i: int):
    """Milliseconds alone, milliseconds under load, and the answers that the uploads got."""
    idle = load.similar_items(address, keys, lambda count: count >= IDLE, seed=2 * i)
    answers: list = []
    uploads = threading.Thread(target=lambda: answers.extend(load.upload_all(address, photo, UPLOADS, PATIENCE)))
    uploads.start()
    loaded = load.similar_items(address, keys, lambda count: not uploads.is_alive(), seed=2 * i + 1)
    uploads.join()
    if len(answers) != UPLOADS or {abs(tries[-1]) for tries, *_ in answers} != {200}:
        raise SystemExit(f"Uploads were lost: {load.summary(answers)}")
    return idle, loaded, answers


def _lines(measured: list) -> list[Line]:
    idle, loaded = (statistics.median(load.p95(of[side]) for of in measured) for side in (0, 1))
    seconds = statistics.median(load.summary(of[2])[2] for of in measured)
    tries = statistics.median(load.summary(of[2])[1] for of in measured)
    detail = (
        f"p95 {idle:.0f} ms alone, {loaded:.0f} ms while {UPLOADS} photos are searched by ({seconds:.0f} s, "
        f"{tries:.0f} tries); gunicorn, 2 processes of {THREADS} threads; medians of {len(measured)} rounds"
    )
    return [Line("g", "similar items under uploads / alone, p95", **at_most(loaded / idle, 3), detail=detail)]


def remove(shop: Example) -> None:
    shop.close()
    shutil.rmtree(shop.folder, ignore_errors=True)
