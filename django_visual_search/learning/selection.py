"""Choose the settings of a head on held-out pictures, and measure embeddings on them.

Entry functions: ``choose_settings`` tries ``HeadSettings``; ``measure`` says how well an embedding finds held-out
pictures. A ``TrainingPlan`` says what is learned and held out; ``folds_of`` makes ``Fold``s of it, each with the
``Question``s that its held-out pictures ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from ..extractors.heads import LinearHead
from .labels import Labels, Values, grouping
from .lda import HeadLearner, HeadSettings, Moments, projected
from .metrics import Metrics, PerQuery, concatenate, evaluate
from .splits import SAME_LABEL, UNSEEN_PICTURES, UNSEEN_PRODUCTS, Indices, Split, unseen_pictures, unseen_products

Embed = Callable[[NDArray[Any]], NDArray[np.float32]]

SHRINKAGES = (0.05, 0.2, 0.5)
RESIDUALS = (0.02, 0.05, 0.1, 0.3)
WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Of a label beside the first aim, whose weight is 1."""
BESIDE_WEIGHT = 0.3
"""Of a label that is no aim, where the choice begins; and the least weight of products. On 2,640 grocery photos as one
product each, altered views of single pictures at 0.3 found their product as often as untrained (.70 against .69), and
at 0 less (.63), while the kind of unseen products was found as well (.77 against .78; untrained .60). Views show less
than photos: in the example shop, both weights kept them, while photos on tables and in rooms found their product in .79
of the cases at 0, in .96 at 0.3 and in .93 untrained."""

CONFIDENCE_SPLITS = 4
"""Held-out pictures differ by luck, in a small shop most: by one split at a confidence of 0.5, descriptors without a
network kept 0.91 of the right first hits among grocery photos of other scenes, and answered 0.12 of irrelevant photos
(means of six seeds, which were 0.07 to 0.23); pooled from four, 0.90 and 0.08. A network: 0.96 and 0.04 either way."""

CONFIDENCE_QUERIES = 3000
"""Queries that need no further split."""

QUERIES = 2000
"""Held-out pictures that are queries at most: the standard error of a share is 0.011 then."""

CHOSEN_BY = (1000, 10_000)
"""Queries and gallery pictures at most while settings are chosen: tens of settings over 100,000 pictures would take
hours otherwise, and fewer tell them apart as well."""

SIMILARITIES_AT_ONCE = 4_000_000
"""Similarities that are in memory at a time."""

ENOUGH_QUERIES = 300
"""Held-out pictures below which further draws are pooled: by 30 alone, luck decides."""
MOST_DRAWS = 5
CHOICE_DRAWS = 2
"""Further draws at most where each of several draws chooses settings for itself: what is measured pools their luck."""


@dataclass(frozen=True)
class TrainingPlan:
    """What is learned, and how it is measured.

    ``target``: the label that says which pictures show one product.
    ``aims``: labels whose pictures are to find each other, the most important first, such as "category"; ``target``
    may be one of them. Empty for ``target`` alone. If ``target`` is no aim, products must still be found as before.
    ``kind``: a label by which a hit is right too where confidence is learned, such as "category".
    ``category``: the label that has a confidence curve for each of its values, if any.
    ``share``: of pictures and of products that are held out.
    ``weights``: values to try as a label's weight, by its name, where these shall not be WEIGHTS.
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
    """What held-out pictures are to find."""

    label: str
    """Pictures with the same value are right."""
    split: Split
    aim: bool
    """Whether settings are chosen by it; otherwise it must only not be answered worse than untrained."""


@dataclass(frozen=True)
class Fold:
    """A split, whose ``train`` is learned from, and what other rows ask."""

    split: Split
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Tried:
    """Settings and what they reached on held-out pictures."""

    settings: HeadSettings
    objective: float
    """The mean of (R@1 + mAP) / 2 over the aims' questions."""
    shortfall: float
    """By how much the worst question falls below what it must reach (see ``choose_settings``), 0 for none."""
    metrics: tuple[Metrics, ...]
    """By question, fold after fold."""

    @property
    def rank(self) -> tuple[float, float]:
        return (-self.shortfall, self.objective)


PASSES = 2
"""Times that all settings are gone through: further ones changed nothing on the grocery photos."""


def choose_settings(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    folds: Sequence[Fold],
    untrained: NDArray[np.floating[Any]],
    *,
    scenes: Indices | None = None,
) -> tuple[HeadSettings, list[Tried]]:
    """Return the best settings by the questions of ``folds``, and all that were tried, one setting changed at a time.

    The best has the highest objective among those by which no question is answered worse (R@1) than by the unit vectors
    ``untrained``, ``(n, u)``. A loss that were allowed here would be larger on other pictures, since the best of many
    settings owes something to luck: .02 became .04 in a shop of 336 products. For the other arguments and errors see
    ``measure`` and ``learn_head``; ValueError also where there are no folds.
    """
    if not folds or not plan.shrinkages or not plan.residuals:
        raise ValueError("There are no settings or no held-out pictures to choose by.")
    learners = [HeadLearner(Moments(features[fold.split.train], take(labels, fold.split.train))) for fold in folds]
    queries, among = CHOSEN_BY

    def figures(rows: NDArray[Any], question: Question, embed: Embed) -> Metrics:
        target = labels[question.label]
        return measure(rows, target, question.split, embed, scenes=scenes, queries=queries, among=among).mean()

    floors = [figures(untrained, question, unchanged).recall[1] for fold in folds for question in fold.questions]
    aims = np.array([question.aim for fold in folds for question in fold.questions])
    tried: dict[tuple[object, ...], Tried] = {}

    def attempt(settings: HeadSettings) -> Tried:
        key = (settings.shrinkage, settings.residual, *sorted(settings.weights.items()))
        if key not in tried:
            found = []
            for learner, fold in zip(learners, folds, strict=True):
                embed = embed_by(learner.head(settings).head)
                found += [figures(features, question, embed) for question in fold.questions]
            reached = np.array([_objective(one) for one in found])
            short = max(floor - one.recall[1] for floor, one in zip(floors, found, strict=True))
            tried[key] = Tried(settings, float(reached[aims].mean()), max(0.0, round(short, 6)), tuple(found))
        return tried[key]

    names = list(labels)
    best = attempt(_first(plan, names))
    for _ in range(PASSES):
        before = best
        for alternatives in _coordinates(plan, names):
            best = max((best, *map(attempt, alternatives(best.settings))), key=lambda one: one.rank)
        if best is before:
            break
    if not plan.weights:  # principal axes alone, which may suit features that were fine-tuned
        best = max(best, attempt(replace(best.settings, weights=dict.fromkeys(names, 0.0))), key=lambda one: one.rank)
    return best.settings, list(tried.values())


def _first(plan: TrainingPlan, names: Sequence[str]) -> HeadSettings:
    weights = {
        name: plan.weights[name][0] if name in plan.weights else 1.0 if name in plan.wanted else BESIDE_WEIGHT
        for name in names
    }
    shrinkage, residual = (values[len(values) // 2] for values in (plan.shrinkages, plan.residuals[:3]))
    return HeadSettings(plan.dimensions, shrinkage, residual, weights)


def _coordinates(plan: TrainingPlan, names: Sequence[str]) -> Iterator[Callable[[HeadSettings], list[HeadSettings]]]:
    """Yield functions that return settings with other values of one of them."""

    def weights_of(name: str) -> Callable[[HeadSettings], list[HeadSettings]]:
        values = plan.weights.get(name, WEIGHTS)
        if name == plan.target and name not in plan.weights and name not in plan.wanted:
            values = [value for value in values if value >= BESIDE_WEIGHT]
        return lambda now: [replace(now, weights={**now.weights, name: value}) for value in values]

    for name in names:
        if name != plan.wanted[0]:
            yield weights_of(name)
    yield lambda now: [replace(now, shrinkage=value) for value in plan.shrinkages]
    yield lambda now: [replace(now, residual=value) for value in plan.residuals]


def _objective(metrics: Metrics) -> float:
    return (metrics.recall[1] + metrics.mean_average_precision) / 2


def measure(
    features: NDArray[np.floating[Any]],
    target: Values,
    split: Split,
    embed: Embed,
    *,
    scenes: Indices | None = None,
    queries: int = QUERIES,
    among: int | None = None,
    seed: int = 0,
    at_once: int = SIMILARITIES_AT_ONCE,
) -> PerQuery:
    """Measure how well held-out pictures are found, every picture with the same ``target`` label being right.

    Unseen pictures, and those of the same label, are searched among the pictures learned from, as a customer's photo is
    in the catalogue. Unseen products are searched among each other, a picture never finding itself nor, with
    ``scenes``, its own scene.
    ``queries``: where more are held out, so many of the answerable ones are drawn. ``among``: where the gallery is
    larger, all right pictures and a draw of others, about so many together. ``at_once``: similarities in memory.

    Raises ValueError where lengths differ. ``mean`` of the result raises it where no query is answerable.
    """
    if len(target) != len(features):
        raise ValueError(f"There are {len(target)} target labels for {len(features)} pictures.")
    classes = grouping("target", target, len(features)).classes
    own = np.arange(len(features)) if scenes is None else np.asarray(scenes)
    rng = np.random.default_rng(seed)
    searched = split.held_out[classes[split.held_out] >= 0]
    apart = split.task == UNSEEN_PRODUCTS
    gallery = searched if apart else split.train
    if len(searched) > queries:
        searched = _drawn(answerable(target, split, scenes), queries, rng)
    if among is not None and len(gallery) > among:
        right = np.isin(classes[gallery], classes[searched])
        others = _drawn(gallery[~right], max(among - int(right.sum()), 0), rng)
        gallery = np.sort(np.concatenate([gallery[right], others]))
    vectors = embed(features[gallery])
    parts = []
    step = max(1, at_once // max(1, len(gallery)))
    for start in range(0, len(searched), step):
        rows = searched[start : start + step]
        candidates = own[rows][:, None] != own[gallery][None] if apart else None
        gains = classes[rows][:, None] == classes[gallery][None]
        parts.append(evaluate(embed(features[rows]) @ vectors.T, gains, candidates=candidates))
    return concatenate(parts)


def answerable(target: Values, split: Split, scenes: Indices | None = None) -> Indices:
    """Return the held-out pictures that ``measure`` could find something right for, ascending."""
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


def _drawn(rows: Indices, most: int, rng: np.random.Generator) -> Indices:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def embed_by(head: LinearHead) -> Embed:
    """Return the embedding by a head: features to unit vectors, as an extractor makes them, up to rounding."""
    return lambda features: l2_normalise(projected(head, features))


def learned_embed(features: NDArray[Any], labels: Labels, split: Split, settings: HeadSettings) -> Embed:
    """Return the embedding by a head that is learned from the split's ``train``."""
    return embed_by(HeadLearner(Moments(features[split.train], take(labels, split.train))).head(settings).head)


def take(labels: Labels, rows: Indices) -> dict[str, Values]:
    """Return the labels of some rows."""
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[int(i)] for i in rows]
        for name, values in labels.items()
    }


def unchanged(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors as they are: an ``Embed`` for those that are embeddings already."""
    return np.asarray(vectors, np.float32)


def held_out(
    labels: Labels, plan: TrainingPlan, scenes: Indices | None = None, plain: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which pictures the first draw of ``train_head`` measures with: a backbone must not be learned from these
    either, and then there must be no further one (``plan.draws``).
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
    """Return the folds of one draw of held-out pictures, and of further ones where these are few: ``most`` draws at
    most (default: MOST_DRAWS).
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
        # Where a known product has no other picture, an altered view of it shows little: it was learned from.
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
    """Leave out questions to which nothing can be found, and folds without one that is an aim."""
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
