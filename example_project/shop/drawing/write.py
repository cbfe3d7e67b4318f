"""Draws designs into JPEG files, on all cores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple

from PIL import Image

from .canvas import Canvas
from .design import Design
from .kinds import KINDS
from .scenes import photo, studio


class Shot(NamedTuple):
    """A photo to be taken: its file, its seed, and where (``scenes.SCENES``; None leaves it to the seed)."""

    file: str
    seed: str
    scene: str | None = None


def cutout(design: Design) -> Image.Image:
    """The object on a transparent ground, RGBA."""
    canvas = Canvas()
    KINDS[design.kind].draw(canvas, design)
    return canvas.image


def write(design: Design, studio_file: str | None, shots: list[Shot]) -> None:
    """Files appear whole or not at all, however the run ends."""
    thing = cutout(design)
    if studio_file is not None:
        _save(studio(thing, design.seed), studio_file, 90)
    for shot in shots:
        _save(photo(thing, shot.seed, shot.scene), shot.file, Random(shot.seed).randint(68, 88))


def _save(picture: Image.Image, file: str, quality: int) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    partial = f"{file}.{os.getpid()}.tmp"
    picture.save(partial, "JPEG", quality=quality)
    os.replace(partial, file)


def write_all(tasks: Iterable[tuple[Design, str | None, list[Shot]]]) -> Iterator[None]:
    """Draw every task ``(design, studio_file, shots)``; yields as each one is done."""
    work = list(tasks)
    if not work:
        return
    # Fresh processes rather than forked ones: they share neither the caller's database connection nor its threads.
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(write, *task) for task in work]
        for future in pending:
            yield future.result()
