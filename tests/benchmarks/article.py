"""(c) The article's way (VGG16 one photo at a time, cosine in a Python loop) against ours, on the same photos."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from django_visual_search import indexing, search
from django_visual_search.fields.registry import get_field
from django_visual_search.spaces import features

from .models import Photographed
from .pictures import FIELD
from .reindex import embedded_catalogue
from .report import Line, seconds

PHOTOS = 16


def measure(photos: int) -> list[Line]:
    paths = embedded_catalogue(photos)
    chosen = paths[:: max(1, len(paths) // PHOTOS)][:PHOTOS]
    keys = [int(path.stem) + 1 for path in chosen]
    taken: dict[str, list[float]] = {name: [] for name in ("their embed", "our embed", "their query", "our query")}
    with Article(len(paths)) as article:
        article.ask("embed", chosen[0])  # the first predict compiles
        for _ in range(3):
            taken["their embed"].append(sum(article.ask("embed", path) for path in chosen) / len(chosen))
            features.forget_features(get_field(FIELD), keys)
            Photographed.objects.filter(pk__in=keys).update(embedding=None, embedding_key=None)
            taken["our embed"].append(seconds(lambda: list(indexing.embed(get_field(FIELD), keys))) / len(chosen))
        for path in chosen:
            taken["their query"].append(article.ask("query", path))
            data = path.read_bytes()
            taken["our query"].append(seconds(lambda data=data: list(search.search_by_image(data, FIELD))))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return [
        _line("embedding a photo, article's way / ours", medians["their embed"], medians["our embed"]),
        _line(
            f"search by photo in {len(paths)} rows, article's way / ours", medians["their query"], medians["our query"]
        ),
    ]


def _line(what: str, theirs: float, ours: float) -> Line:
    detail = f"{theirs * 1e3:.1f} ms / {ours * 1e3:.1f} ms (VGG16 with random weights: the same arithmetic)"
    return Line("c", what, f"{theirs / ours:.1f}", detail=detail)


class Article:
    """The article's program in a process of its own, so that TensorFlow is not in this one: a path in, seconds out."""

    def __init__(self, catalogue: int) -> None:
        command = [sys.executable, "-m", f"{__package__}.article_program", str(catalogue)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Article:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, what: str, path: Path) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        while answer and not answer.startswith("seconds "):
            answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("The process with the article's way ended; its message is on the standard error.")
        return float(answer.split()[1])
