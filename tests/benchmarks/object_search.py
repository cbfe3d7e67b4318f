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
        one, find, every = (medians[name] for name in ("search", "find", "every"))
        found = f"{find * 1e3:.1f} of {one * 1e3:.1f} ms"
        lines.append(Line("h", f"find_objects / search_by_image, {what}", **at_most(find / one, 3), detail=found))
        parts = len(search.search_objects(files[0], FIELD))
        detail = (
            f"{every * 1e3:.1f} of {one * 1e3:.1f} ms; {(every - find) / parts / one:.2f} for each of {parts} parts"
        )
        lines.append(Line("h", f"search_objects / search_by_image, {what}", f"{every / one:.2f}", detail=detail))
    return lines


def _sides(files: list[bytes]):
    turns = {name: itertools.cycle(files) for name in ("search", "find", "every")}
    return {
        "search": lambda: list(search.search_by_image(next(turns["search"]), FIELD)),
        "find": lambda: search.find_objects(next(turns["find"]), FIELD),
        "every": lambda: search.search_objects(next(turns["every"]), FIELD),
    }
