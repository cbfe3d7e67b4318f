"""(j) A search by a photo and a text, against one by the photo alone."""

from __future__ import annotations

import itertools

from django.core.management import call_command

from django_visual_search import search

from .models import Photographed
from .pictures import FIELD, enlarged, photo_names
from .reindex import embedded_catalogue
from .report import Line, at_most, side_by_side

TEXTS = ["apple juice", "yellow pepper", "milk", "red fruit", "oat yoghurt with vanilla"]


def measure(photos: int, rounds: int = 300) -> list[Line]:
    paths = embedded_catalogue(photos)
    for key, name in enumerate(photo_names(photos), 1):
        # As a shop would name the product: Packages/Juice/Tropicana-Apple/… is "Juice Tropicana Apple".
        words = " ".join(name.split("/")[1:-1]).replace("-", " ") if name else "A product without a name"
        Photographed.objects.filter(pk=key).update(name=words)
    call_command("train_embedding", f"{FIELD}.embedding", text=True)
    small = [path.read_bytes() for path in paths[:: max(1, len(paths) // 40)]]
    lines = []
    for what, files, turns in (
        ("photo as in the data set", small, rounds),
        ("12 megapixel photo", [enlarged(data) for data in small[:8]], rounds // 10),
    ):
        medians = side_by_side(_sides(files), turns, warm=5)
        alone, both = medians["photo"], medians["photo and text"]
        detail = f"{both * 1e3:.1f} of {alone * 1e3:.1f} ms; {len(paths)} rows"
        lines.append(
            Line("j", f"photo and text / search_by_image, {what}", **at_most(both / alone, 1.3), detail=detail)
        )
    return lines


def _sides(files: list[bytes]):
    turns = {name: itertools.cycle(files) for name in ("photo", "photo and text")}
    texts = itertools.cycle(TEXTS)
    return {
        "photo": lambda: list(search.search_by_image(next(turns["photo"]), FIELD)),
        "photo and text": lambda: list(search.search_by_image(next(turns["photo and text"]), FIELD, text=next(texts))),
    }
