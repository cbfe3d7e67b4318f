"""(a) Embedding a catalogue of pictures, against the limit of its bare parts on all cores.

The limit is measured: a process per core that decodes and infers, and nothing else. One core's times divided by the
number of cores are shown too.
"""

from __future__ import annotations

import os
import statistics

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import ann
from django_visual_search.spaces import features

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
    alone = statistics.median(limit / bare for limit, bare in zip(limits, taken["together"], strict=True))
    each = {name: statistics.median(values) / n * 1e3 for name, values in taken.items()}
    detail = (
        f"{n} pictures: {1e3 / each['ours']:.0f}/s, {each['ours']:.2f} ms a picture; bare parts, a process per core: "
        f"{each['together']:.2f} ms; the HNSW index takes {build:.1f} s more, once"
    )
    apart = f"bare decode {each['decode']:.2f} ms and inference {each['infer']:.2f} ms a picture while one core works"
    return [
        Line("a", "indexing.embed / bare parts on all cores", **at_least(same_load, 0.9), detail=detail),
        # What no program reaches: cores share caches and memory, and a clock that falls when all of them work.
        Line("a", f"… / (one core's bare parts / {cores})", f"{ratio:.2f}", detail=apart),
        Line("a", f"bare parts on all cores / (one core's / {cores})", f"{alone:.2f}"),
    ]


def embed_all(field, expected: int) -> None:
    report = indexing.Outcome()
    for step in indexing.embed(field, list(Photographed.objects.order_by("pk").values_list("pk", flat=True))):
        report.add(step)
    if report.done + report.skipped != expected:
        raise RuntimeError(f"Not all pictures were embedded: {report}")


def forget() -> None:
    """The vectors, and the features that are kept of the pictures: with them nothing would be decoded or inferred."""
    features.forget_features(get_field(FIELD))
    Photographed.objects.update(embedding=None, embedding_key=None)


def embedded_catalogue(photos: int):
    """The pictures, all of them embedded and indexed: what the other parts start from."""
    paths = catalogue(photos)
    field = get_field(FIELD)
    embed_all(field, len(paths))
    ann.build_indexes(field)
    ann.analyze(field)
    return paths
