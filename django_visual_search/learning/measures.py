"""What is measured of rankings: by query, and in the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KS = (1, 5, 10)
NDCG_AT = 10


@dataclass(frozen=True)
class PerQuery:
    """The measures of each query, ``(queries,)`` each; NaN where nothing right was there to be found."""

    recall: dict[int, Floats]
    """By k: the chance that something right is among the first k (hit rate, as R@k is called in image retrieval)."""
    average_precision: Floats
    reciprocal_rank: Floats
    ndcg: Floats

    def mean(self, rows: NDArray[Any] | slice = slice(None)) -> Metrics:
        """Over the queries ``rows`` (an index array or a mask), those with nothing right to be found left out."""
        there = ~np.isnan(self.average_precision[rows])
        if not there.any():
            raise ValueError("There is no query with anything right to be found, so nothing can be measured.")
        return Metrics(
            queries=int(there.sum()),
            left_out=int((~there).sum()),
            recall={k: float(values[rows][there].mean()) for k, values in self.recall.items()},
            mean_average_precision=float(self.average_precision[rows][there].mean()),
            mean_reciprocal_rank=float(self.reciprocal_rank[rows][there].mean()),
            ndcg=float(self.ndcg[rows][there].mean()),
        )


@dataclass(frozen=True)
class Metrics:
    """Means over queries."""

    queries: int
    left_out: int
    """Queries with nothing right to be found; not part of the means."""
    recall: dict[int, float]
    mean_average_precision: float
    mean_reciprocal_rank: float
    ndcg: float

    def as_dict(self) -> dict[str, float]:
        """By their usual names, such as "R@1", for JSON."""
        return {
            **{f"R@{k}": value for k, value in self.recall.items()},
            "mAP": self.mean_average_precision,
            "MRR": self.mean_reciprocal_rank,
            f"nDCG@{NDCG_AT}": self.ndcg,
            "queries": self.queries,
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        numbers = {name: value for name, value in self.as_dict().items() if isinstance(value, float)}
        return "  ".join(f"{name} {value:.3f}" for name, value in numbers.items()) + f"  ({self.queries} queries)"


def joined(parts: Sequence[PerQuery], ks: Sequence[int] = KS) -> PerQuery:
    """The measures of several lots of queries, one after the other."""

    def all_of(values: list[Floats]) -> Floats:
        return np.concatenate(values) if values else np.empty(0)

    return PerQuery(
        recall={k: all_of([part.recall[k] for part in parts]) for k in ks},
        average_precision=all_of([part.average_precision for part in parts]),
        reciprocal_rank=all_of([part.reciprocal_rank for part in parts]),
        ndcg=all_of([part.ndcg for part in parts]),
    )
