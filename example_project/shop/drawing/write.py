"""Draw designs into JPEG files, on all cores. Entry function: ``write_all``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
    """A photo to take: its file, its seed, and its scene (``scenes.SCENES``; None leaves it to the seed)."""

    file: str
    seed: str
    scene: str | None = None


class Drawing(NamedTuple):
    """The pictures of one product to draw: the studio's file, if any, and photos."""

    design: Design
    studio_file: str | None
    shots: list[Shot]


def write_all(drawings: Sequence[Drawing]) -> Iterator[None]:
    """Draw everything into JPEG files; yield as each drawing is done."""
    if not drawings:
        return
    # Spawned rather than forked processes: they share neither the caller's database connection nor its threads.
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_write, drawings)


def cutout(design: Design) -> Image.Image:
    """Return the product on a transparent ground, RGBA."""
    canvas = Canvas()
    KINDS[design.kind].draw(canvas, design)
    return canvas.image


def _write(drawing: Drawing) -> None:
    product = cutout(drawing.design)
    if drawing.studio_file is not None:
        _save(studio(product, drawing.design.seed), drawing.studio_file, 90)
    for shot in drawing.shots:
        _save(photo(product, shot.seed, shot.scene), shot.file, Random(shot.seed).randint(68, 88))


def _save(picture: Image.Image, file: str, quality: int) -> None:
    """Write the file whole or not at all, however the run ends."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    partial = f"{file}.{os.getpid()}.tmp"
    picture.save(partial, "JPEG", quality=quality)
    os.replace(partial, file)
