"""(d) Nearest rows under filters of every width: our planner against always taking the graph and always scanning."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection
from pgvector import HalfVector

from django_visual_search import search
from django_visual_search.db.statements import compile_query
from django_visual_search.fields.registry import get_field
from django_visual_search.search.candidates import candidates, embedded
from django_visual_search.search.nearest import nearest
from django_visual_search.search.query import Query
from django_visual_search.spaces.extractors import extractor_of
from tests.vectors import clustered, fill

from .models import Many
from .report import Line, at_most, side_by_side

K = 20
QUERIES = 12
CLUSTERS = 200
GRAPH = {"enable_sort": "off", "hnsw.iterative_scan": "relaxed_order", "hnsw.ef_search": "100"}
SCAN = {"enable_sort": "on", "hnsw.iterative_scan": "off", "hnsw.ef_search": "40"}


@dataclass
class Sample:
    """A query near a row, and the rows it may find."""

    pk: int
    vector: Any
    within: Any


def measure(rows: int) -> list[Line]:
    field = get_field("benchmarks.Many")
    vectors, cluster = clustered(rows, field.dimensions, CLUSTERS)
    price = np.random.default_rng(1).permutation(rows) * 1000 // rows
    columns = {"name": ["x"] * rows, "image": [f"{i}.jpg" for i in range(rows)], "cluster": cluster.tolist()}
    columns |= {"price": price.tolist(), "stock": [1] * rows}
    fill(field, vectors, columns=columns)
    return [_compare(field, name, _samples(vectors, cluster, make)) for name, make in FILTERS.items()]


def _others(count: int):
    return lambda own: {"cluster__in": [c for c in range(CLUSTERS) if c != own][:count]}


FILTERS = {
    "no filter": lambda own: {},
    "50 %": lambda own: {"price__lt": 500},
    "10 %": lambda own: {"price__lt": 100},
    "1 %": lambda own: {"price__lt": 10},
    "0.1 %": lambda own: {"price__lt": 1},
    "0 rows": lambda own: {"price__lt": 0},
    "20 % far away": _others(40),
    "0.5 % far away": _others(1),
}


def _samples(vectors, cluster, make) -> list[Sample]:
    rng = np.random.default_rng(2)
    chosen = rng.integers(0, len(vectors), QUERIES)
    noise = 0.05 * rng.standard_normal((QUERIES, vectors.shape[1]))
    return [
        Sample(int(i) + 1, vectors[i] + extra, Many.objects.filter(**make(int(cluster[i]))))
        for i, extra in zip(chosen, noise, strict=True)
    ]


def _compare(field, name: str, samples: list[Sample]) -> Line:
    key = extractor_of(field).spec.key
    found: dict[str, list[int]] = {}
    spent: dict[str, list[float]] = {side: [] for side in ("ours", "graph", "scan", "similar_to")}
    recalls: dict[str, list[float]] = {"ours": [], "graph": []}
    exact = 0
    for one in samples:
        product = Many.objects.get(pk=one.pk)
        plan = {}

        def ours(one=one, plan=plan) -> None:
            near = nearest(field, [Query(one.vector, key)], limit=K, within=one.within)
            plan["exact"] = near.exact
            found["ours"] = [hit.product_pk for hit in near.candidates]

        def bare(side: str, zero: str, settings: dict[str, str], one=one) -> None:
            found[side] = _bare(field, one, key, zero, settings)

        sides = {
            "ours": ours,
            "graph": lambda bare=bare: bare("graph", "", GRAPH),
            "scan": lambda bare=bare: bare("scan", " + 0", SCAN),
            "similar_to": lambda product=product, one=one: list(search.similar_to(product, limit=K, within=one.within)),
        }
        for side, median in side_by_side(sides, rounds=3).items():
            spent[side].append(median)
        exact += plan["exact"]
        for side, values in recalls.items():
            values.append(len(set(found[side]) & set(found["scan"])) / max(1, len(found["scan"])))
            if not found["scan"]:
                values[-1] = 1.0
    return _line(name, spent, recalls, exact / len(samples))


def _bare(field, one: Sample, key: str, zero: str, settings: dict[str, str]) -> list[int]:
    """One query and nothing else; the settings travel in the same message."""
    rows = embedded(field, candidates(field, one.within)[0], key, None)
    sql, params = compile_query(rows.values_list("pk", "embedding"), "default")
    put = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    statement = (
        f"SELECT {put};\nWITH allowed (pk, vector) AS NOT MATERIALIZED ({sql}) SELECT pk FROM allowed "
        f"ORDER BY (vector <=> %s::halfvec){zero} LIMIT {K}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*params, HalfVector(one.vector).to_text()])
        cursor.nextset()
        return [row[0] for row in cursor.fetchall()]


def _line(name: str, spent: dict[str, list[float]], recalls: dict[str, list[float]], exact: float) -> Line:
    ms = {side: statistics.median(values) * 1e3 for side, values in spent.items()}
    recall = {side: statistics.fmean(values) for side, values in recalls.items()}
    better = min(ms["scan"], ms["graph"] if recall["graph"] >= 0.95 else ms["scan"])
    detail = (
        f"ours {ms['ours']:.1f} ms recall {recall['ours']:.3f} ({exact:.0%} exact); "
        f"graph {ms['graph']:.1f} ms recall {recall['graph']:.3f}; scan {ms['scan']:.1f} ms; "
        f"similar_to in all {ms['similar_to']:.1f} ms"
    )
    return Line("d", f"planner / better side, {name}", **at_most(ms["ours"] / better, 1.3), detail=detail)
