"""Applies staff's rules: products pinned to a rank, boosted, and hidden."""

from __future__ import annotations

import itertools
from typing import Any

from .distance import Distances, best_first
from .types import Candidate, RankingContext, Rule

PINNED, BOOSTED, LOWERED = "pinned", "boosted", "lowered"


def merchandise(candidates: list[Candidate], context: RankingContext) -> list[Candidate]:
    """The candidates without the hidden ones, by distance / factor of their boosts, and the pinned ones at their ranks.

    If a product has rules for this query, its rules for every search don't count. Of its rules, hiding goes before
    pinning and pinning before boosting; of several pins the first slot counts, of several boosts the one made last.
    Where two products are pinned to one slot, the one for this query has it, then the one whose rule is older; the
    other gets the next slot that is free. A slot beyond the last hit is the last place.
    """
    rules = _by_product(context)
    if not rules:
        return [candidate for candidate in candidates if not candidate.pinned]
    hidden = {product for product, found in rules.items() if _of(found, "hide")}
    pins = {
        product: min(_of(found, "pin"), key=_slot)
        for product, found in rules.items()
        if product not in hidden and _of(found, "pin")
    }
    boosts = {product: _of(found, "boost")[-1].factor for product, found in rules.items() if _of(found, "boost")}
    pinned: dict[Any, Candidate] = {}
    rest = []
    for candidate in candidates:
        if candidate.product_pk in pins:
            pinned[candidate.product_pk] = candidate
        elif candidate.product_pk not in hidden and not candidate.pinned:
            rest.append(candidate)
    order = _boost(rest, boosts, context)
    for slot, product in _slots([pin for product, pin in pins.items() if product in pinned]):
        pinned[product].reasons.append(PINNED)
        order.insert(slot - 1, pinned[product])
    return order


def _by_product(context: RankingContext) -> dict[Any, list[Rule]]:
    """The rules that count for each product, in the order in which they came."""
    for_query: dict[Any, list[Rule]] = {}
    for_all: dict[Any, list[Rule]] = {}
    for rule in context.rules:
        if rule.query_id in ("", context.query_id):
            (for_query if rule.query_id else for_all).setdefault(rule.product_pk, []).append(rule)
    return for_all | for_query


def _of(rules: list[Rule], kind: str) -> list[Rule]:
    return [rule for rule in rules if rule.kind == kind]


def _slot(pin: Rule) -> int:
    return pin.slot or 1


def _boost(candidates: list[Candidate], boosts: dict[Any, float], context: RankingContext) -> list[Candidate]:
    factors = [boosts.get(candidate.product_pk, 1.0) for candidate in candidates]
    if all(factor == 1 for factor in factors):
        return candidates
    distances = Distances(candidates, context.embedding.metric)
    for candidate, distance, factor in zip(candidates, distances.values, factors, strict=True):
        distances.put(candidate, distance / factor)
        if factor != 1:
            candidate.reasons.append(BOOSTED if factor > 1 else LOWERED)
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
