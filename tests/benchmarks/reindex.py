"""(a) Embedding a catalogue of pictures, against the sum limit of its bare parts over all cores."""

from __future__ import annotations

import os
import statistics

from django_visual_search import indexing
from django_visual_search.indexing import ann
from django_visual_search.registry import get_field

from .models import Photographed
from .pictures import FIELD, BareParts, catalogue
from .report import Line, at_least, seconds

ROUNDS = 3


def measure(photos: int) -> list[Line]:
    paths = catalogue(photos)
    bare = BareParts(threads=1)
    field = get_field(FIELD)
    pictures = [bare.decode(path.read_bytes()) for path in paths]
    ann.drop_indexes(field)  # as reindex_embeddings does
    embed_all(field, len(paths))  # starts the decoders
    cores = len(os.sched_getaffinity(0))
    ratios, ours = [], []
    for _ in range(ROUNDS):
        decode = seconds(lambda: [bare.decode(path.read_bytes()) for path in paths])
        infer = seconds(lambda: [bare.infer(picture) for picture in pictures])
        forget()
        spent = seconds(lambda: embed_all(field, len(paths)))
        ratios.append((decode + infer) / cores / spent)
        ours.append((spent, decode, infer))
    spent, decode, infer = (statistics.median(values) for values in zip(*ours, strict=True))
    build = seconds(lambda: ann.build_indexes(field))
    n = len(paths)
    detail = (
        f"{n} pictures: {n / spent:.0f}/s; bare decode {decode / n * 1e3:.2f} ms, inference "
        f"{infer / n * 1e3:.2f} ms a picture on one core; the HNSW index takes {build:.1f} s more, once"
    )
    return [
        Line("a", "indexing.embed / limit of its parts", **at_least(statistics.median(ratios), 0.85), detail=detail)
    ]


def embed_all(field, expected: int) -> None:
    report = indexing.Report()
    for step in indexing.embed(field, list(Photographed.objects.order_by("pk").values_list("pk", flat=True))):
        report.add(step)
    if report.done + report.skipped != expected:
        raise RuntimeError(f"Not all pictures were embedded: {report}")


def forget() -> None:
    Photographed.objects.update(embedding=None, embedding_key=None)


def embedded_catalogue(photos: int):
    """The pictures, all of them embedded and indexed: what the other parts start from."""
    paths = catalogue(photos)
    field = get_field(FIELD)
    embed_all(field, len(paths))
    ann.build_indexes(field)
    ann.analyze(field)
    return paths
