"""What a head is learned from and measured with: the plan, and the pictures that it holds out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Labels
from .selection import RESIDUALS, SHRINKAGES, take
from .splits import Indices, Split, unseen_pictures, unseen_products


@dataclass(frozen=True)
class Plan:
    """What is learned, and how it is measured.

    ``target``: the label by which pictures are to find each other, such as "product".
    ``kind``: a label by which a hit is right too where confidence is learned, such as "category".
    ``category``: the label that confidence is told apart by, if any.
    ``share``: of pictures and of products that are held out.
    ``mixtures``: weights of labels to try, as ``Settings.weights``.
    """

    dimensions: int
    target: str
    kind: str | None = None
    category: str | None = None
    share: float = 0.3
    seed: int = 0
    shrinkages: Sequence[float] = SHRINKAGES
    residuals: Sequence[float] = RESIDUALS
    mixtures: Sequence[Mapping[str, float]] = field(default_factory=lambda: ({},))


def held_out(labels: Labels, plan: Plan, scenes: Indices | None = None) -> NDArray[np.bool_]:
    """Which pictures ``train_head`` measures with: nothing else may be learned from them either, such as a backbone."""
    values = labels[plan.target]
    held = np.zeros(len(values), bool)
    for split in splits_of(labels, np.arange(len(values)), plan, scenes, plan.seed, []):
        held[split.held_out] = True
    return held


def splits_of(
    labels: Labels, rows: Indices, plan: Plan, scenes: Indices | None, seed: int, notes: list[str]
) -> list[Split]:
    """Both tasks over some of the pictures, as rows of all; those that can't be had are noted."""
    own = take(labels, rows)[plan.target]
    some = None if scenes is None else scenes[rows]
    found = []
    for make in (unseen_pictures, unseen_products):
        try:
            split = make(own, share=plan.share, scenes=some, seed=seed)
        except ValueError as e:
            notes.append(str(e))
            continue
        if len(split.train) > 1:
            found.append(Split(split.task, rows[split.train], rows[split.held_out], split.leaked))
    return found


def check(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: Plan,
    before: NDArray[np.floating[Any]],
    scenes: Indices | None,
) -> None:
    """Raises ValueError where what is given doesn't fit together."""
    for name in (plan.target, plan.kind, plan.category, *(name for mixture in plan.mixtures for name in mixture)):
        if name is not None and name not in labels:
            raise ValueError(f"There is no label {name!r}; there are {', '.join(labels)}.")
    if not 0 < plan.share < 1:
        raise ValueError(f"The share to hold out must be between 0 and 1, not {plan.share}.")
    numbers = {f"labels {name!r}": len(values) for name, values in labels.items()}
    numbers |= {"vectors before": len(before), "scenes": len(features) if scenes is None else len(scenes)}
    for what, number in numbers.items():
        if number != len(features):
            raise ValueError(f"There are {number} {what} for {len(features)} pictures.")
    if not np.isfinite(before).all():
        raise ValueError("The vectors before must be finite numbers, zeros where a picture has none.")
