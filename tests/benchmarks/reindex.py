"""(a) Embedding a catalogue of pictures, against the sum limit of its bare parts over all cores."""

from __future__ import annotations

import os
import statistics

from django_visual_search import feature_cache, indexing
from django_visual_search.indexing import ann
from django_visual_search.registry import get_field

from .models import Photographed
from .on_all_cores import on_all_cores
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
    taken: dict[str, list[float]] = {"decode": [], "infer": [], "together": [], "ours": []}
    with on_all_cores(bare.path, bare.spec.input_size, cores) as together:
        together(paths[:50])
        for _ in range(ROUNDS):
            taken["decode"].append(seconds(lambda: [bare.decode(path.read_bytes()) for path in paths]))
            taken["infer"].append(seconds(lambda: [bare.infer(picture) for picture in pictures]))
            taken["together"].append(seconds(lambda: together(paths)))
            forget()
            taken["ours"].append(seconds(lambda: embed_all(field, len(paths))))
    build = seconds(lambda: ann.build_indexes(field))
    n = len(paths)
    limits = [(decode + infer) / cores for decode, infer in zip(taken["decode"], taken["infer"], strict=True)]
    ratio = statistics.median(limit / ours for limit, ours in zip(limits, taken["ours"], strict=True))
    same_load = statistics.median(bare / ours for bare, ours in zip(taken["together"], taken["ours"], strict=True))
    each = {name: statistics.median(values) / n * 1e3 for name, values in taken.items()}
    detail = (
        f"{n} pictures: {1e3 / each['ours']:.0f}/s, {each['ours']:.2f} ms a picture; on one core bare decode "
        f"{each['decode']:.2f} ms, inference {each['infer']:.2f} ms; the HNSW index takes {build:.1f} s more, once"
    )
    apart = f"bare parts alone, a process per core: {each['together']:.2f} ms a picture"
    return [
        Line("a", "indexing.embed / limit of its parts", **at_least(ratio, 0.85), detail=detail),
        Line("a", "indexing.embed / bare parts on all cores", f"{same_load:.2f}", detail=apart),
    ]


def embed_all(field, expected: int) -> None:
    report = indexing.Report()
    for step in indexing.embed(field, list(Photographed.objects.order_by("pk").values_list("pk", flat=True))):
        report.add(step)
    if report.done + report.skipped != expected:
        raise RuntimeError(f"Not all pictures were embedded: {report}")


def forget() -> None:
    """The vectors, and the features that are kept of the pictures: with them nothing would be decoded or inferred."""
    feature_cache.forget(get_field(FIELD))
    Photographed.objects.update(embedding=None, embedding_key=None)


def embedded_catalogue(photos: int):
    """The pictures, all of them embedded and indexed: what the other parts start from."""
    paths = catalogue(photos)
    field = get_field(FIELD)
    embed_all(field, len(paths))
    ann.build_indexes(field)
    ann.analyze(field)
    return paths
