"""The rankers of this app, and the choice of a search's rankers.

Entry function: ``rankers_for``. ``feedback`` moves hits by shoppers' events, ``merchandise`` applies staff's rules, and
``mmr`` spreads hits that look alike.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from ..conf import conf
from .types import Candidate, Distances, Ranker, RankingContext, Rule, best_first

NEEDS = frozenset({"evidence", "vectors", "rules"})


def rankers_for(ranking: bool | Iterable[Any] | None) -> tuple[Ranker, ...]:
    """Return the rankers of a search: for None or True those of ``VISUAL_SEARCH["RANKING"]``, for False none.

    Else ``ranking`` lists functions or dotted paths, of which the last part is enough for one of the setting or of
    ``django_visual_search.ranking``. Raises ImproperlyConfigured for a path that names no ranker, ValueError for
    another type.
    """
    if ranking is None or ranking is True:
        return _load(tuple(conf.RANKING))
    if ranking is False:
        return ()
    if isinstance(ranking, str) or not isinstance(ranking, Iterable):
        raise ValueError(f"'ranking' is a bool or a list of rankers, not {ranking!r}.")
    return _load(tuple(ranking))


def needs_of(rankers: Iterable[Ranker]) -> frozenset[str]:
    """Return the rankers' needs, of "evidence", "vectors" and "rules"."""
    return frozenset().union(*(getattr(ranker, "needs", ()) for ranker in rankers))


@functools.lru_cache(maxsize=64)
def _load(names: tuple[Any, ...]) -> tuple[Ranker, ...]:
    return tuple(load_ranker(name) for name in names)


def load_ranker(name: Any) -> Ranker:
    """Return a ranker by its path, or the function itself. Raises ImproperlyConfigured if it isn't a ranker."""
    ranker = name if callable(name) else _import(str(name))
    if not callable(ranker) or not frozenset(getattr(ranker, "needs", ())) <= NEEDS:
        raise ImproperlyConfigured(f"{name!r} is not a ranker: a function whose 'needs' are of {sorted(NEEDS)}.")
    return ranker


def _import(path: str) -> Any:
    if "." not in path:
        named = [listed for listed in map(str, conf.RANKING) if listed.endswith(f".{path}")]
        path = named[0] if named else f"django_visual_search.ranking.{path}"
    try:
        return import_string(path)
    except ImportError as e:
        raise ImproperlyConfigured(f"There is no ranker {path!r}: {e}") from e


@receiver(setting_changed)
def forget_rankers(*, setting: str, **kwargs: Any) -> None:
    if setting == "VISUAL_SEARCH":
        _load.cache_clear()


LIKED, DISLIKED = "feedback", "disliked"

AVERAGE_RATE = 0.1
"""Gain per look without any evidence: one click in ten looks."""
AVERAGE_HITS = 2.0
"""Weight of that assumption, in hits with evidence."""
KNOWN_LOOKS = 20.0
"""A hit with so many looks counts half of one with very many, for the average."""
ALONE_GAIN = 8.0
"""Strength of the prior, as gain: so much at the average rate counts beside a hit's own gain over all other queries."""
PAIR_GAIN = 4.0
"""Strength of the prior, as gain: so much at its rate over all other queries counts beside its own for this query."""
ONE_NETWORK = 3.0
"""Gain over all other queries that has no weight: one network can cause it in one day, by the limits of
``feedback.events``."""
LEAST = 0.1
"""A hit's rate over all other queries is taken to be at least this share of the average."""


def feedback(candidates: list[Candidate], context: RankingContext) -> list[Candidate]:
    """Order the candidates by distance * (1 - FEEDBACK_WEIGHT * u).

    u in -1..1 is how much better or worse than the candidates' average a hit did for this query.
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
    """Return u of each candidate: (rate - average) / (rate + average), -1..1; 0 without evidence.

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


PINNED, BOOSTED, LOWERED = "pinned", "boosted", "lowered"


def merchandise(candidates: list[Candidate], context: RankingContext) -> list[Candidate]:
    """Order the candidates by distance / factor of their boosts, the pinned ones at their ranks, without hidden ones.

    If a product has rules for this query, its rules for every search don't count; if it has rules of its own, rules by
    attribute don't. Of its rules, hiding goes before pinning and pinning before boosting; of several pins the first
    slot counts, of several boosts the one made last. (Products that an attribute hides are not among the candidates:
    see ``reading.hidden_sql``.) Where two products are pinned to one slot, the one for this query has it, then the one
    whose rule is older; the other gets the next slot that is free. A slot beyond the last hit is the last place.
    """
    rules = _rules_by_product(context)
    if not context.rules:
        return [candidate for candidate in candidates if not candidate.pinned]
    hidden = {product for product, found in rules.items() if _candidate_rules(found, "hide")}
    pins = {
        product: min(_candidate_rules(found, "pin"), key=_slot)
        for product, found in rules.items()
        if product not in hidden and _candidate_rules(found, "pin")
    }
    pinned: dict[Any, Candidate] = {}
    rest = []
    for candidate in candidates:
        if candidate.product_pk in pins:
            pinned[candidate.product_pk] = candidate
        elif candidate.product_pk not in hidden and not candidate.pinned:
            rest.append(candidate)
    order = _boost(rest, [_boost_of(candidate, rules) for candidate in rest], context)
    for slot, product in _slots([pin for product, pin in pins.items() if product in pinned]):
        pinned[product].reasons.append(PINNED)
        pinned[product].rule = pins[product].pk
        order.insert(slot - 1, pinned[product])
    return order


def _rules_by_product(context: RankingContext) -> dict[Any, list[Rule]]:
    """Return the rules that count for each product, in their order."""
    for_query: dict[Any, list[Rule]] = {}
    for_all: dict[Any, list[Rule]] = {}
    for rule in context.rules:
        if rule.query_id in ("", context.query_id) and not rule.attribute:
            (for_query if rule.query_id else for_all).setdefault(rule.product_pk, []).append(rule)
    return for_all | for_query


def _candidate_rules(rules: list[Rule], kind: str) -> list[Rule]:
    return [rule for rule in rules if rule.kind == kind]


def _slot(pin: Rule) -> int:
    return pin.slot or 1


def _boost_of(candidate: Candidate, rules: dict[Any, list[Rule]]) -> Rule | None:
    """Return the boost that counts for a candidate: of its own rules, else of those by attribute."""
    found = rules.get(candidate.product_pk)
    if found is None:
        found = [rule for rule in candidate.matched if rule.query_id] or list(candidate.matched)
    return next(reversed(_candidate_rules(found, "boost")), None)


def _boost(candidates: list[Candidate], boosts: list[Rule | None], context: RankingContext) -> list[Candidate]:
    if all(rule is None or rule.factor == 1 for rule in boosts):
        return candidates
    distances = Distances(candidates, context.embedding.metric)
    for candidate, distance, rule in zip(candidates, distances.values, boosts, strict=True):
        distances.put(candidate, distance / (rule.factor if rule else 1))
        if rule and rule.factor != 1:
            candidate.reasons.append(BOOSTED if rule.factor > 1 else LOWERED)
            candidate.rule = rule.pk
    return best_first(candidates)


def _slots(pins: list[Rule]) -> list[tuple[int, Any]]:
    """(slot, product) with every slot once, first slots first."""
    taken: dict[int, Any] = {}
    late = []
    for pin in sorted(pins, key=lambda pin: not pin.query_id):  # stable: of a kind, the older stay first
        if _slot(pin) in taken:
            late.append(pin)
        else:
            taken[_slot(pin)] = pin.product_pk
    for pin in sorted(late, key=_slot):
        slot = next(slot for slot in itertools.count(_slot(pin)) if slot not in taken)
        taken[slot] = pin.product_pk
    return sorted(taken.items(), key=lambda item: item[0])


merchandise.needs = frozenset({"rules"})  # type: ignore[attr-defined]


DIVERSE = "diverse"


def mmr(balance: float) -> Ranker:
    """Return a ranker that takes next the hit most like the query and least like those before it; 1 changes nothing.

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

    ``distances`` float (n,), ``vectors`` float32 (n, d). The added part only grows, so the distances do too.
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
