"""Moves hits by what shoppers did with them: liked hits count as nearer, disliked ones as farther."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..conf import conf
from .distance import Distances, best_first
from .types import Candidate, RankingContext

LIKED, DISLIKED = "feedback", "disliked"

AVERAGE_RATE = 0.1
"""What is gained each time that a hit is looked at, where nothing is known: one click in ten looks."""
AVERAGE_HITS = 2.0
"""How many hits that assumption counts for, against those that are known."""
KNOWN_LOOKS = 20.0
"""A hit with so many looks counts half of one with very many, for the average."""
ALONE_GAIN = 8.0
"""How much gain at the average rate is added to a hit's own, over all other queries."""
PAIR_GAIN = 4.0
"""How much gain at its rate over all other queries is added to a hit's own for this query."""
ONE_NETWORK = 3.0
"""Gain over all other queries that may be the doing of one network in one day, and so says nothing: what
``feedback.weights`` lets one add to a product."""
LEAST = 0.1
"""A hit's rate over all other queries is taken to be at least this share of the average."""


def feedback(candidates: list[Candidate], context: RankingContext) -> list[Candidate]:
    """The candidates by distance * (1 - FEEDBACK_WEIGHT * u), where u in -1..1 says how much better or worse than the
    candidates' average a hit did for this query.

    With weight w (0 <= w < 1) no hit is passed by one more than (1 + w) / (1 - w) times as far: 3 times at the default
    of 0.5. That is of the cosine distance; of the Euclidean one (``l2``) its square root. Distances below 0.001 count
    as 0.001. Hits that moved because of their own evidence get the reason "feedback", or "disliked" where they fell.
    """
    if not any(value for candidate in candidates for value in (*candidate.alone, *candidate.pair)):
        return candidates
    distances = Distances(candidates, context.embedding.metric)
    verdicts = opinions(candidates)
    for candidate, distance, u in zip(candidates, distances.values, verdicts, strict=True):
        distances.put(candidate, distance * (1 - conf.FEEDBACK_WEIGHT * u))
    order = best_first(candidates)
    places = {id(candidate): place for place, candidate in enumerate(order)}
    for before, (candidate, u) in enumerate(zip(candidates, verdicts, strict=True)):
        after = places[id(candidate)]
        if u > 0 and after < before:
            candidate.reasons.append(LIKED)
        elif u < 0 and after > before:
            candidate.reasons.append(DISLIKED)
    return order


def opinions(candidates: Sequence[Candidate]) -> list[float]:
    """u of each candidate: (rate - average) / (rate + average), -1..1; 0 where nothing is known of it.

    A rate is gain per look, where a showing is a look with the chance that its rank is looked at: clicks over expected
    clicks (Zhang and Jones, 2007, "Comparing click logs and editorial labels for training query rewriting"). Rates of
    few looks are drawn to what is expected, as by a Beta prior (Wang et al., 2011, "Click-through rate estimation for
    rare events in online advertising"): a hit's rate for this query to its rate over all other queries, that one to
    the candidates' average, and the average to AVERAGE_RATE. Priors are given as gains, so one click moves a rate by
    the same share whether a shop's shoppers click much or little. The average is over hits, not looks, so that the
    most shown ones don't make it alone. Over all other queries, only what a hit gained beyond ONE_NETWORK more, or
    less, than the average counts.
    """
    known = [max(0.0, candidate.alone[1]) + KNOWN_LOOKS for candidate in candidates]
    gains = sum(max(0.0, c.alone[0]) / looks for c, looks in zip(candidates, known, strict=True))
    hits = sum(1 - KNOWN_LOOKS / looks for looks in known)
    average = (gains + AVERAGE_HITS * AVERAGE_RATE) / (hits + AVERAGE_HITS)
    found = []
    for candidate in candidates:
        (pair_gain, pair_looks), (all_gain, all_looks) = candidate.pair, candidate.alone
        elsewhere = _rate(all_gain - pair_gain, all_looks - pair_looks, average, ALONE_GAIN, ONE_NETWORK)
        rate = _rate(pair_gain, pair_looks, max(LEAST * average, elsewhere), PAIR_GAIN)
        found.append((rate - average) / (rate + average))
    return found


def _rate(gain: float, looks: float, expected: float, prior: float, doubt: float = 0.0) -> float:
    """Gain per look after a gain of ``prior`` at the expected rate is added, and ``doubt`` is taken off the difference.

    Returns can make a gain negative; a rate is not.
    """
    looks = max(0.0, looks)
    more = gain - expected * looks
    more = math.copysign(max(0.0, abs(more) - doubt), more)
    return max(0.0, expected + more / (looks + prior / expected))


feedback.needs = frozenset({"evidence"})  # type: ignore[attr-defined]
