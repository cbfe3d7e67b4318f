"""Learns how sure a head may be of its hits, from pictures that heads of the same settings didn't learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, calibrate
from .labels import Labels
from .lda import Settings
from .pairs import first_hits
from .plan import Plan
from .selection import Embed, learned_embed, take
from .splits import Indices, Split, unseen_pictures

SPLITS = 4
"""What is held out differs by luck, in a small shop most: by one split at a confidence of 0.5, descriptors without a
network kept 0.91 of the right first hits among grocery photos of other scenes, and answered 0.12 of irrelevant photos
(means of six seeds, which were 0.07 to 0.23); pooled from four, 0.90 and 0.08. A network: 0.96 and 0.04 either way."""

ENOUGH = 3000
"""Pairs that need no further split."""

SEED_STEP = 1000
"""Between the seeds of splits, so that they meet no other that is made from the plan's seed."""


def learn_confidence(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: Plan,
    settings: Settings,
    measured: tuple[Split, Embed],
    notes: list[str],
    *,
    scenes: Indices | None = None,
    strangers: NDArray[np.floating[Any]] | None = None,
    more: bool = True,
) -> Calibration | None:
    """From unseen pictures of known products, and ``strangers``; the arrays are those of ``train_head``.

    ``measured``: a split and the head that was learned from what it doesn't hold out. ``more``: whether others may be
    made, which needs features that owe nothing to any of the pictures. ``notes`` are told why nothing could be learned,
    where it couldn't. Raises ValueError for arrays that don't fit, and ExtractorUnavailable.
    """
    names = [plan.target] + ([plan.kind] if plan.kind is not None else [])
    found, categories, asked = [], [], 0
    split, embed = measured
    for number in range(1, SPLITS + 1):
        held, there = (take(labels, rows) for rows in (split.held_out, split.train))
        pairs = first_hits(
            embed(features[split.held_out]),
            embed(features[split.train]),
            [held[name] for name in names],
            [there[name] for name in names],
            strangers=None if strangers is None else embed(strangers),
        )
        found.append(pairs)
        asked += len(split.held_out)
        if plan.category is not None:
            known = there[plan.category]
            categories += [known[int(hit)] for hit in pairs.hits]
        if not more or asked >= ENOUGH or number == SPLITS:
            break
        seed = plan.seed + number * SEED_STEP
        try:
            split = unseen_pictures(labels[plan.target], share=plan.share, scenes=scenes, seed=seed)
            embed = learned_embed(features, labels, split, settings)
        except ValueError as e:  # what the measured split found is enough then
            notes.append(f"confidence: from {number} of {SPLITS} splits: {e}")
            break
    similarities, right, weights = (
        np.concatenate([getattr(pairs, name) for pairs in found]) for name in ("similarities", "right", "weights")
    )
    try:
        return calibrate(similarities, right, categories=categories if plan.category else None, weights=weights)
    except ValueError as e:
        notes.append(f"confidence: {e}")
        return None
