"""Measure rankings: recall@k, mean average precision (mAP), reciprocal rank (MRR) and nDCG, exact where scores tie.

Entry functions: ``evaluate`` takes similarities to all pictures, ``evaluate_lists`` lists that may end early. Both
return measures by query (``PerQuery``), whose ``mean`` are ``Metrics``.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Doubles

KS = (1, 5, 10)
NDCG_AT = 10


@dataclass(frozen=True)
class PerQuery:
    """The measures of each query, ``(queries,)`` each; NaN where nothing right can be found."""

    recall: dict[int, Doubles]
    """By k: the chance that something right is among the first k (hit rate, as R@k is called in image retrieval)."""
    average_precision: Doubles
    reciprocal_rank: Doubles
    ndcg: Doubles

    def mean(self, rows: NDArray[Any] | slice = slice(None)) -> Metrics:
        """Average over the queries ``rows`` (an index array or a mask), without those that have nothing right to find.

        Raises ValueError where no query is left.
        """
        answerable = ~np.isnan(self.average_precision[rows])
        if not answerable.any():
            raise ValueError("No query has anything right to find, so nothing can be measured.")
        return Metrics(
            queries=int(answerable.sum()),
            left_out=int((~answerable).sum()),
            recall={k: float(values[rows][answerable].mean()) for k, values in self.recall.items()},
            mean_average_precision=float(self.average_precision[rows][answerable].mean()),
            mean_reciprocal_rank=float(self.reciprocal_rank[rows][answerable].mean()),
            ndcg=float(self.ndcg[rows][answerable].mean()),
        )


@dataclass(frozen=True)
class Metrics:
    """Means over queries."""

    queries: int
    left_out: int
    """Queries with nothing right to find; not part of the means."""
    recall: dict[int, float]
    mean_average_precision: float
    mean_reciprocal_rank: float
    ndcg: float

    def as_dict(self) -> dict[str, float]:
        """Return the measures by their usual names, such as "R@1", for JSON."""
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


def concatenate(parts: Sequence[PerQuery], ks: Sequence[int] = KS) -> PerQuery:
    """Put the measures of several lots of queries one after the other."""

    def all_of(values: list[Doubles]) -> Doubles:
        return np.concatenate(values) if values else np.empty(0)

    return PerQuery(
        recall={k: all_of([part.recall[k] for part in parts]) for k in ks},
        average_precision=all_of([part.average_precision for part in parts]),
        reciprocal_rank=all_of([part.reciprocal_rank for part in parts]),
        ndcg=all_of([part.ndcg for part in parts]),
    )


SORTED_AT_ONCE = 4_000_000
"""Similarities that are sorted at a time: several arrays of that size are in memory, eight in float64 where all tie."""


def evaluate(
    similarities: NDArray[Any],
    gains: NDArray[Any],
    *,
    candidates: NDArray[np.bool_] | None = None,
    ks: Sequence[int] = KS,
    at_once: int = SORTED_AT_ONCE,
) -> PerQuery:
    """Measure rankings by similarity, largest first.

    ``similarities``: ``(queries, pictures)``. ``gains``: the same shape, how right each picture is, 0 for wrong; True
    counts 1. ``candidates``: which pictures each query may find, such as all but its own; None for all. ``at_once``:
    similarities sorted at a time.

    Equal similarities have no order, so every measure is its mean over all orders of them, computed exactly
    (F. McSherry and M. Najork, "Computing information retrieval performance measures efficiently in the presence of
    tied scores", 2008). The gain of nDCG is linear and its discount 1 / log2(rank + 1), as in trec_eval.

    Raises ValueError where shapes differ, a similarity is NaN, or a gain is negative.
    """
    similarities, gains = np.asarray(similarities), np.asarray(gains)
    if similarities.ndim != 2 or gains.shape != similarities.shape:
        raise ValueError(
            f"Similarities and gains are (queries, pictures) alike, not {similarities.shape} and {gains.shape}."
        )
    if candidates is not None and candidates.shape != similarities.shape:
        raise ValueError(f"Candidates must have the shape {similarities.shape}, not {candidates.shape}.")
    step = max(1, at_once // max(1, similarities.shape[1]))
    parts = []
    for start in range(0, len(similarities), step):
        rows = slice(start, start + step)
        parts.append(_sorted(similarities[rows], gains[rows], None if candidates is None else candidates[rows], ks))
    return concatenate(parts, ks)


def evaluate_lists(
    rankings: Sequence[Sequence[Hashable]], right: Sequence[Collection[Hashable]], *, ks: Sequence[int] = KS
) -> PerQuery:
    """Measure ranked lists, which may end early: right things outside the list count as never found.

    ``rankings``: by query, best first; ``right``: by query, everything that is right. Raises ValueError where their
    lengths differ or a list names something twice.
    """
    if len(rankings) != len(right):
        raise ValueError(f"There are {len(rankings)} rankings but {len(right)} sets of what is right.")
    depth = max(map(len, rankings), default=0)
    found = np.zeros((len(rankings), depth))
    for i, ranking in enumerate(rankings):
        if len(set(ranking)) != len(ranking):
            raise ValueError(f"Ranking {i} names something twice.")
        found[i, : len(ranking)] = [thing in right[i] for thing in ranking]
    totals = np.array([len(set(things)) for things in right], float)
    order = np.broadcast_to(-np.arange(depth, dtype=float), found.shape)
    best = np.ones(max(NDCG_AT, int(totals.max(initial=0))))
    ideal = np.concatenate([[0.0], np.cumsum(best * _discounts(len(best)))])
    return _measures(order, found, totals, ideal[np.minimum(totals, NDCG_AT).astype(int)], ks)


def _sorted(
    similarities: NDArray[Any], gains: NDArray[Any], candidates: NDArray[np.bool_] | None, ks: Sequence[int]
) -> PerQuery:
    scores, worth = similarities, gains
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if np.isnan(scores).any():
        raise ValueError("A similarity is NaN.")
    if not (worth >= 0).all():
        raise ValueError("A gain is negative or NaN.")
    if candidates is not None:
        # Last and with gain 0: as if absent.
        scores, worth = np.where(candidates, scores, -np.inf), np.where(candidates, worth, np.zeros_like(worth))
    order = np.argsort(-scores, axis=1)
    scores, found = np.take_along_axis(scores, order, axis=1), np.take_along_axis(worth, order, axis=1)
    totals, cut = (worth > 0).sum(axis=1), min(worth.shape[1], NDCG_AT)
    if worth.dtype == bool:
        best = np.arange(cut) < totals[:, None]
    else:
        best = -np.sort(-worth.astype(np.float64), axis=1)[:, :cut]
    return _measures(scores, found, totals, best @ _discounts(cut), ks)


def _measures(
    scores: NDArray[Any], gains: NDArray[Any], totals: NDArray[Any], ideal: Doubles, ks: Sequence[int]
) -> PerQuery:
    """Measure ``scores`` and ``gains`` in ranked order; ``totals``: how many are right; ``ideal``: the best DCG."""
    found = _measures_in_order(gains, totals, ideal, ks)
    right = gains > 0
    tied = ((scores[:, 1:] == scores[:, :-1]) & (right[:, 1:] | right[:, :-1])).any(axis=1)
    if tied.any():
        over_orders = _measures_of_ties(
            scores[tied].astype(np.float64), gains[tied].astype(np.float64), totals[tied], ideal[tied], ks
        )
        for k in ks:
            found.recall[k][tied] = over_orders.recall[k]
        for name in ("average_precision", "reciprocal_rank", "ndcg"):
            getattr(found, name)[tied] = getattr(over_orders, name)
    return found


def _measures_in_order(gains: NDArray[Any], totals: NDArray[Any], ideal: Doubles, ks: Sequence[int]) -> PerQuery:
    """Measure ``gains`` in ranked order, where no score of anything right occurs twice.

    By the ranks of what is right alone, in a fraction of the time of ``_measures_of_ties``.
    """
    queries, depth = gains.shape
    query, place = np.nonzero(gains > 0)
    begins = np.searchsorted(query, np.arange(queries))
    precision = (np.arange(1, len(query) + 1) - begins[query]) / (place + 1)
    first = np.full(queries, np.inf)
    first[query[::-1]] = place[::-1]  # the last that is written is the first
    cut, answerable = min(depth, NDCG_AT), totals > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return PerQuery(
            recall={k: np.where(answerable, (first < k).astype(np.float64), np.nan) for k in ks},
            average_precision=np.where(answerable, np.bincount(query, precision, queries) / totals, np.nan),
            reciprocal_rank=np.where(answerable, 1 / (first + 1), np.nan),
            ndcg=np.where(answerable, gains[:, :cut] @ _discounts(cut) / ideal, np.nan),
        )


def _measures_of_ties(
    scores: Doubles, gains: Doubles, totals: NDArray[Any], ideal: Doubles, ks: Sequence[int]
) -> PerQuery:
    """Measure as ``_measures`` does, each measure as its mean over all orders of equal scores."""
    queries, depth = scores.shape
    rank = np.arange(1, depth + 1, dtype=float)
    relevant = (gains > 0).astype(float)
    start, size, inside = _ties(scores)
    in_tie = _per_tie(relevant, start, size)  # how many of those tied with each place are right
    before = np.take_along_axis(_before(relevant), start, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = in_tie / size
        # Those tied before a place that are right, given that the one at this place is.
        beside = np.where(size > 1, inside * (in_tie - 1) / (size - 1), 0.0)
        precision = (share * (before + 1 + beside) / rank).sum(axis=1) / totals
        # The chance that nothing right has come up to each place, drawing without replacement from each tie.
        nothing = np.cumprod(np.clip(1 - in_tie / (size - inside), 0, 1), axis=1)
        first = np.hstack([np.ones((queries, 1)), nothing[:, :-1]]) - nothing if depth else nothing
        cut = min(depth, NDCG_AT)
        dcg = (_per_tie(gains, start, size) / size)[:, :cut] @ _discounts(cut)
        answerable = totals > 0
        nan = np.full(queries, np.nan)
        return PerQuery(
            recall={
                k: np.where(answerable, 1 - nothing[:, min(k, depth) - 1] if depth and k > 0 else 0.0, nan) for k in ks
            },
            average_precision=np.where(answerable, precision, nan),
            reciprocal_rank=np.where(answerable, (first / rank).sum(axis=1), nan),
            ndcg=np.where(answerable, dcg / ideal, nan),
        )


def _ties(scores: Doubles) -> tuple[NDArray[np.intp], Doubles, Doubles]:
    """Return for each place where its tie begins, how many are tied, and how many of them come before it."""
    depth = scores.shape[1]
    place = np.broadcast_to(np.arange(depth), scores.shape)
    new = np.ones(scores.shape, bool)
    new[:, 1:] = scores[:, 1:] != scores[:, :-1]
    start = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    last = np.ones(scores.shape, bool)
    last[:, :-1] = new[:, 1:]
    end = np.minimum.accumulate(np.where(last, place, depth)[:, ::-1], axis=1)[:, ::-1]
    return start, (end - start + 1).astype(float), (place - start).astype(float)


def _before(values: Doubles) -> Doubles:
    return np.asarray(np.cumsum(values, axis=1) - values)


def _per_tie(values: Doubles, start: NDArray[np.intp], size: Doubles) -> Doubles:
    """Sum ``values`` over everything tied with each place."""
    total = np.hstack([np.zeros((len(values), 1)), np.cumsum(values, axis=1)])
    end = start + size.astype(np.intp)
    return np.asarray(np.take_along_axis(total, end, axis=1) - np.take_along_axis(total, start, axis=1))


def _discounts(depth: int) -> Doubles:
    return np.asarray(1 / np.log2(np.arange(2, depth + 2)))
