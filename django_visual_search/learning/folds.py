"""The data that a head is learned from and measured on: a plan, and pictures held out by it.

Entry function: ``folds_of``. A ``TrainingPlan`` names the labels and the share to hold out; a ``Fold`` is one way to
hold out, with the ``Question``s that its held-out pictures ask. A *draw* is a fold of pictures and one of whole
products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Labels, Values, grouping
from .splits import SAME_LABEL, UNSEEN_PICTURES, UNSEEN_PRODUCTS, Indices, Split, unseen_pictures, unseen_products

SHRINKAGES = (0.05, 0.2, 0.5)
RESIDUALS = (0.02, 0.05, 0.1, 0.3)

CONFIDENCE_SPLITS = 4
"""Held-out pictures differ by luck, in a small shop most: by one split at a confidence of 0.5, descriptors without a
network kept 0.91 of the right first hits among grocery photos of other scenes, and answered 0.12 of irrelevant photos
(means of six seeds, which were 0.07 to 0.23); pooled from four, 0.90 and 0.08. A network: 0.96 and 0.04 either way."""

CONFIDENCE_QUERIES = 3000
"""Queries that need no further split."""

ENOUGH_QUERIES = 300
"""Held-out pictures below which further draws are pooled: by 30 alone, luck decides."""
MOST_DRAWS = 5
CHOICE_DRAWS = 2
"""Further draws at most where each of several draws chooses settings for itself: the figures pool their luck."""


@dataclass(frozen=True)
class TrainingPlan:
    """The labels that a head is learned from, and how it is measured.

    ``target``: the label that says which pictures show one product.
    ``aims``: labels whose pictures are to find each other, the most important first, such as "category"; ``target``
    may be one of them. Empty for ``target`` alone. If ``target`` is no aim, products must still be found as before.
    ``kind``: a label by which a hit is right too where confidence is learned, such as "category".
    ``category``: the label that has a confidence curve for each of its values, if any.
    ``share``: of pictures and of products that are held out.
    ``weights``: values to try as a label's weight, by its name, where these shall not be LABEL_WEIGHTS.
    ``draws``: how often other pictures are held out, to pool what is measured; None for as often as few queries need.
    ``confidence_splits``, ``confidence_queries``: confidence is learned from so many splits at most, and from no
    further one once there are so many queries.
    """

    dimensions: int
    target: str
    aims: Sequence[str] = ()
    kind: str | None = None
    category: str | None = None
    share: float = 0.3
    seed: int = 0
    shrinkages: Sequence[float] = SHRINKAGES
    residuals: Sequence[float] = RESIDUALS
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    draws: int | None = None
    confidence_splits: int = CONFIDENCE_SPLITS
    confidence_queries: int = CONFIDENCE_QUERIES

    @property
    def wanted(self) -> tuple[str, ...]:
        return tuple(self.aims) or (self.target,)


@dataclass(frozen=True)
class Question:
    """The pictures that held-out ones are to find."""

    label: str
    """Pictures with the same value are right."""
    split: Split
    aim: bool
    """Whether settings are chosen by it; otherwise it must only not be answered worse than untrained."""


@dataclass(frozen=True)
class Fold:
    """A split, whose ``train`` is learned from, and the questions of the other rows."""

    split: Split
    questions: tuple[Question, ...]


def answerable(target: Values, split: Split, scenes: Indices | None = None) -> Indices:
    """Return the held-out pictures with something right to find, ascending."""
    classes = grouping("target", target, len(target)).classes
    held = split.held_out[classes[split.held_out] >= 0]
    if split.task != UNSEEN_PRODUCTS:
        return held[np.isin(classes[held], classes[split.train])]
    own = held if scenes is None else np.asarray(scenes)[held]
    pairs, back, same = np.unique(
        np.stack([classes[held], own], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    alike = np.bincount(classes[held], minlength=1)[pairs[:, 0]]
    return held[(alike > same)[back.reshape(-1)]]


def take(labels: Labels, rows: Indices) -> dict[str, Values]:
    """Return the labels of some rows."""
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[int(i)] for i in rows]
        for name, values in labels.items()
    }


def held_out(
    labels: Labels, plan: TrainingPlan, scenes: Indices | None = None, plain: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which pictures the first draw of ``train_head`` measures with.

    A backbone must not be learned from these either. If one is learned, ``plan.draws`` must be 1.
    """
    values = labels[plan.target]
    folds = folds_of(labels, np.arange(len(values)), plan, scenes, plain, plan.seed, [])
    return ~seen_by_all(folds, len(values))


def seen_by_all(folds: Sequence[Fold], count: int) -> NDArray[np.bool_]:
    """Return which of ``count`` rows every fold learns from."""
    seen = np.ones(count, bool)
    for fold in folds:
        inside = np.zeros(count, bool)
        inside[fold.split.train] = True
        seen &= inside
    return seen


DRAW_STEP = 100
"""Between the seeds of two draws, so that none equals the next one's own."""


def draws_of(
    labels: Labels,
    rows: Indices,
    plan: TrainingPlan,
    scenes: Indices | None,
    plain: NDArray[np.bool_] | None,
    seed: int,
    notes: list[str],
    most: int | None = None,
) -> list[list[Fold]]:
    """Return the folds of one draw of held-out pictures, and of further draws where these pictures are few.

    ``most``: draws at most (default: MOST_DRAWS).
    """
    first = folds_of(labels, rows, plan, scenes, plain, seed, notes)
    asked = [len(question.split.held_out) for fold in first for question in fold.questions if question.aim]
    wanted = -(-ENOUGH_QUERIES // max(1, min(asked))) if asked else 1
    count = plan.draws or int(np.clip(wanted, 1, MOST_DRAWS if most is None else most))
    more = [folds_of(labels, rows, plan, scenes, plain, seed + DRAW_STEP * i, []) for i in range(1, count)]
    return [first, *more]


def folds_of(
    labels: Labels,
    rows: Indices,
    plan: TrainingPlan,
    scenes: Indices | None,
    plain: NDArray[np.bool_] | None,
    seed: int,
    notes: list[str],
) -> list[Fold]:
    """Hold out pictures, and whole products, of some ``rows``; ``notes`` receive why one is impossible.

    ``plain``: which of all rows are pictures, where others are altered views of them: only pictures ask for a label.
    """
    own = take(labels, rows)
    some = None if scenes is None else scenes[rows]
    beside = [label for label in plan.wanted if label != plan.target]
    alike = own[beside[0]] if beside else None
    found = []
    for make in (unseen_pictures, unseen_products):
        options: dict[str, Any] = {"categories": alike} if make is unseen_products else {}
        try:
            if make is unseen_pictures and plain is not None and plan.target not in plan.wanted:
                split = _unseen_views(plain[rows], plan.share, seed)
            else:
                split = make(own[plan.target], share=plan.share, scenes=some, seed=seed, **options)
        except ValueError as e:
            notes.append(str(e))
            continue
        if len(split.train) < 2:
            continue
        split = replace(split, train=rows[split.train], held_out=rows[split.held_out])
        aim = plan.target in plan.wanted
        # If a learned product has no other picture, its altered view shows little: it was learned from.
        questions = [Question(plan.target, split, aim)] if aim or make is unseen_products else []
        if make is unseen_products:
            train, held = (part if plain is None else part[plain[part]] for part in (split.train, split.held_out))
            apart = Split(SAME_LABEL, train, held, split.leaked)
            questions += [Question(label, apart, aim=True) for label in beside]
        found.append(Fold(split, tuple(questions)))
    return found


def _unseen_views(plain: NDArray[np.bool_], share: float, seed: int) -> Split:
    """Hold out altered views alone: pictures of products that have no other are needed to learn from."""
    views = np.flatnonzero(~plain)
    if not len(views):
        raise ValueError("There are no altered views to hold out.")
    held = np.zeros(len(plain), bool)
    held[np.random.default_rng(seed).permutation(views)[: max(1, round(share * len(views)))]] = True
    return Split(UNSEEN_PICTURES, np.flatnonzero(~held), np.flatnonzero(held), None)


def answerable_folds(folds: Sequence[Fold], labels: Labels, scenes: Indices | None) -> list[Fold]:
    """Leave out questions without an answer, and folds without an aim among theirs."""
    found = []
    for fold in folds:
        able = tuple(one for one in fold.questions if len(answerable(labels[one.label], one.split, scenes)))
        if any(one.aim for one in able):
            found.append(replace(fold, questions=able))
    return found


def check_arrays(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    before: NDArray[np.floating[Any]],
    scenes: Indices | None,
) -> None:
    """Raise ValueError where the arguments of ``train_head`` don't fit together."""
    for name in (plan.target, *plan.aims, plan.kind, plan.category, *plan.weights):
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
