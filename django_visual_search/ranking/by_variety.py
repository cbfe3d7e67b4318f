"""Spreads hits that look alike: maximal marginal relevance."""

from __future__ import annotations

import numpy as np

from .distance import Distances
from .types import Candidate, Ranker, RankingContext

DIVERSE = "diverse"


def mmr(balance: float) -> Ranker:
    """A ranker that puts next what is like the query and unlike what comes before it; 1 changes nothing.

    Each place goes to the candidate with the largest ``balance * s - (1 - balance) * t``, where s is its cosine to the
    query, as rankers before this one corrected it, and t the largest to a hit that has a place, 0 if that is negative
    (Carbonell and Goldstein, 1998, "The use of MMR, diversity-based reranking for reordering documents and producing
    summaries"). Hits that rise get the reason "diverse". Raises ValueError for a balance that is not above 0 and at
    most 1.
    """
    if not 0 < balance <= 1:
        raise ValueError(f"The balance of similarity and diversity is above 0 and at most 1, not {balance!r}.")

    def diversity(candidates: list[Candidate], context: RankingContext) -> list[Candidate]:
        distances = Distances(candidates, context.embedding.metric)
        vectors = np.array([candidate.vector for candidate in candidates], np.float32)
        order = _spread(np.array(distances.values), vectors, (1 - balance) / balance)
        for after, (before, distance) in enumerate(order):
            distances.put(candidates[before], distance)
            if after < before:
                candidates[before].reasons.append(DIVERSE)
        return [candidates[before] for before, _ in order]

    diversity.needs = frozenset({"vectors"})  # type: ignore[attr-defined]
    return diversity


def _spread(distances: np.ndarray, vectors: np.ndarray, weight: float) -> list[tuple[int, float]]:
    """(position, distance + weight * largest cosine to one before it), each the least of those that were left.

    ``distances`` float (n,), ``vectors`` float32 (n, d). What is added only grows, so the distances do too.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    alike = np.zeros(len(distances))
    left = np.ones(len(distances), bool)
    order = []
    for _ in distances:
        marginal = np.where(left, distances + weight * alike, np.inf)
        chosen = int(marginal.argmin())
        order.append((chosen, float(marginal[chosen])))
        left[chosen] = False
        alike = np.maximum(alike, vectors @ vectors[chosen])
    return order


diversity = mmr(0.7)
"""``mmr`` at the balance that is commonly taken: mostly similarity."""
