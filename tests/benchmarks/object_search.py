"""(h) The objects in a photo, and a search by each of them, against one search by the photo."""

from __future__ import annotations

import itertools

from django_visual_search import search

from .composites import GROUNDS, composites
from .pictures import FIELD, enlarged
from .reindex import embedded_catalogue
from .report import Line, at_most, side_by_side


def measure(photos: int, rounds: int = 120) -> list[Line]:
    embedded_catalogue(photos)
    small = [one.photo for ground in GROUNDS for one in composites("reporting", 4, ground, "drawn")]
    lines = []
    for what, files, turns in (
        ("photo of 640 to 960 pixels", small, rounds),
        ("12 megapixel photo", [enlarged(data) for data in small[::3]], rounds // 4),
    ):
        medians = side_by_side(_sides(files), turns, warm=5)
        for name, call in (("find", "find_objects"), ("each", "search_objects")):
            lines.append(
                Line(
                    "h",
                    f"{call} / search_by_image, {what}",
                    **at_most(medians[name] / medians["search"], 3),
                    detail=f"{medians[name] * 1e3:.1f} of {medians['search'] * 1e3:.1f} ms",
                )
            )
    return lines


def _sides(files: list[bytes]):
    turns = {name: itertools.cycle(files) for name in ("search", "find", "each")}
    return {
        "search": lambda: list(search.search_by_image(next(turns["search"]), FIELD)),
        "find": lambda: search.find_objects(next(turns["find"]), FIELD),
        "each": lambda: search.search_objects(next(turns["each"]), FIELD),
    }
