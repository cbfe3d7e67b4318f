"""Choose the settings of a head on held-out pictures, and measure embeddings on them.

Entry functions: ``choose_settings`` tries ``HeadSettings``; ``measure`` returns how well an embedding finds held-out
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from ..extractors.heads import LinearHead
from ..extractors.litert import usual_threads
from .folds import Fold, TrainingPlan, answerable, take
from .labels import Labels, Values, grouping
from .lda import HeadLearner, HeadSettings, Moments, projected
from .metrics import Metrics, PerQuery, concatenate, evaluate
from .splits import UNSEEN_PRODUCTS, Indices, Split

Embed = Callable[[NDArray[Any]], NDArray[np.float32]]

LABEL_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Of a label beside the first aim, whose weight is 1."""
BESIDE_WEIGHT = 0.3
"""Of a label that is no aim, where the choice begins; and the least weight of products. On 2,640 grocery photos as one
product each, altered views of single pictures at 0.3 found their product as often as untrained (.70 against .69), and
at 0 less (.63), while the kind of unseen products was found as well (.77 against .78; untrained .60). Views show less
than photos: in the example shop, both weights kept them, while photos on tables and in rooms found their product in .79
of the cases at 0, in .96 at 0.3 and in .93 untrained."""

BESIDE_SHARE = 0.3
"""How much a question beside the aims counts: aims alone are reached alike by very different heads. Heads of four seeds
found the product of 0.94 to 0.96 of the example shop's photos with it, of 0.92 to 0.95 by aims alone."""

QUERIES = 2000
"""Held-out pictures that are queries at most: the standard error of a share is 0.011 then."""

CHOSEN_BY = (1000, 10_000)
"""Queries and gallery pictures at most while settings are chosen: tens of settings over 100,000 pictures would take
hours otherwise, and fewer tell them apart as well."""

SIMILARITIES_AT_ONCE = 4_000_000
"""Similarities that are in memory at a time, in each of the threads that try settings."""


@dataclass(frozen=True)
class Tried:
    """Settings and what they reached on held-out pictures."""

    settings: HeadSettings
    objective: float
    """The mean of (R@1 + mAP) / 2 over the aims' questions, and BESIDE_SHARE of that over the others."""
    shortfall: float
    """How far the worst question falls below its floor (see ``choose_settings``), 0 for none."""
    metrics: tuple[Metrics, ...]
    """By question, fold after fold."""

    @property
    def rank(self) -> tuple[float, float]:
        return (-self.shortfall, self.objective)


class _Asked:
    """The questions of one fold while settings are chosen: what doesn't depend on the settings is made once."""

    def __init__(self, features: NDArray[np.floating[Any]], labels: Labels, fold: Fold, scenes: Indices | None) -> None:
        train = fold.split.train
        self._learner = HeadLearner(Moments(features[train], take(labels, train)))
        queries, among = CHOSEN_BY
        self._searches = [
            Search.of(labels[question.label], question.split, scenes, queries=queries, among=among)
            for question in fold.questions
        ]
        self.aims = [question.aim for question in fold.questions]
        self.rows = np.unique(np.concatenate([part for one in self._searches for part in (one.queries, one.gallery)]))
        """All pictures that are searched for or among."""
        self._features = features[self.rows]
        self._places = [
            (np.searchsorted(self.rows, one.queries), np.searchsorted(self.rows, one.gallery)) for one in self._searches
        ]

    def figures(self, vectors: NDArray[Any]) -> list[Metrics]:
        """Measure by unit vectors of ``rows``."""
        return [
            one.measured(vectors[queries], vectors[gallery]).mean()
            for one, (queries, gallery) in zip(self._searches, self._places, strict=True)
        ]

    def reached(self, settings: HeadSettings) -> list[Metrics]:
        """Measure a head of these settings that is learned from the fold's pictures."""
        return self.figures(embed_by(self._learner.head(settings).head)(self._features))


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
    ``untrained``, ``(n, u)``, by more than one query. A larger loss allowed here would be larger still on other
    pictures, since the best of many settings owes something to luck: .02 became .04 in a shop of 336 products. A single
    query decides nothing, or one of 106 would choose between heads: the example's was another with every seed. For the
    other arguments and errors see ``measure`` and ``learn_head``; ValueError also where there are no folds.
    """
    if not folds or not plan.shrinkages or not plan.residuals:
        raise ValueError("There are no settings or no held-out pictures to choose by.")
    asked = [_Asked(features, labels, fold, scenes) for fold in folds]
    aims = np.array([aim for one in asked for aim in one.aims])
    least = [figures for one in asked for figures in one.figures(unchanged(untrained[one.rows]))]
    floors = [one.recall[1] - 1 / max(1, one.queries) for one in least]
    tried: dict[tuple[object, ...], Tried] = {}

    def attempt(settings: HeadSettings) -> Tried:
        found = [figures for one in asked for figures in one.reached(settings)]
        reached = np.array([_reached(one) for one in found])
        objective = float(reached[aims].mean())
        if not aims.all():
            objective += BESIDE_SHARE * float(reached[~aims].mean())
        short = max(floor - one.recall[1] for floor, one in zip(floors, found, strict=True))
        return Tried(settings, objective, max(0.0, round(short, 6)), tuple(found))

    def best_of(first: Tried | None, several: Sequence[HeadSettings], pool: Executor) -> Tried:
        keys = [(one.shrinkage, one.residual, *sorted(one.weights.items())) for one in several]
        new = {key: one for key, one in zip(keys, several, strict=True) if key not in tried}
        tried.update(zip(new, pool.map(attempt, new.values()), strict=True))
        found = [tried[key] for key in keys]
        return max(found if first is None else [first, *found], key=lambda one: one.rank)

    names = list(labels)
    # NumPy lets other threads run while it works.
    with ThreadPoolExecutor(usual_threads()) as pool:
        best = best_of(None, [_first_settings(plan, names)], pool)
        for _ in range(PASSES):
            before = best
            for alternatives in _coordinates(plan, names):
                best = best_of(best, alternatives(best.settings), pool)
            if best is before:
                break
        if not plan.weights:  # principal axes alone, which may suit features that were fine-tuned
            best = best_of(best, [replace(best.settings, weights=dict.fromkeys(names, 0.0))], pool)
    return best.settings, list(tried.values())


def _first_settings(plan: TrainingPlan, names: Sequence[str]) -> HeadSettings:
    weights = {
        name: plan.weights[name][0] if name in plan.weights else 1.0 if name in plan.wanted else BESIDE_WEIGHT
        for name in names
    }
    shrinkage, residual = (values[len(values) // 2] for values in (plan.shrinkages, plan.residuals[:3]))
    return HeadSettings(plan.dimensions, shrinkage, residual, weights)


def _coordinates(plan: TrainingPlan, names: Sequence[str]) -> Iterator[Callable[[HeadSettings], list[HeadSettings]]]:
    """Yield functions that return settings with other values of one of them."""

    def weights_of(name: str) -> Callable[[HeadSettings], list[HeadSettings]]:
        values = plan.weights.get(name, LABEL_WEIGHTS)
        if name == plan.target and name not in plan.weights and name not in plan.wanted:
            values = [value for value in values if value >= BESIDE_WEIGHT]
        return lambda now: [replace(now, weights={**now.weights, name: value}) for value in values]

    for name in names:
        if name != plan.wanted[0]:
            yield weights_of(name)
    yield lambda now: [replace(now, shrinkage=value) for value in plan.shrinkages]
    yield lambda now: [replace(now, residual=value) for value in plan.residuals]


def _reached(metrics: Metrics) -> float:
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
    search = Search.of(target, split, scenes, queries=queries, among=among, seed=seed)
    vectors = embed(features[search.gallery])
    # Unseen products are searched among each other, so the queries have their vectors already.
    asked = np.searchsorted(search.gallery, search.queries) if search.apart else None
    return search.measured(embed(features[search.queries]) if asked is None else vectors[asked], vectors, at_once)


@dataclass(frozen=True)
class Search:
    """The pictures of a question that are searched for, and those that are searched, ascending."""

    queries: Indices
    gallery: Indices
    classes: Indices
    """Of all pictures: those of one class are right for each other."""
    scenes: Indices
    """Of all pictures."""
    apart: bool
    """Whether queries are pictures of the gallery, and find none of their own scene."""

    @classmethod
    def of(
        cls,
        target: Values,
        split: Split,
        scenes: Indices | None,
        *,
        queries: int,
        among: int | None,
        seed: int = 0,
    ) -> Search:
        """Draw the pictures; for the arguments see ``measure``."""
        classes = grouping("target", target, len(target)).classes
        own = np.arange(len(target)) if scenes is None else np.asarray(scenes)
        rng = np.random.default_rng(seed)
        searched = np.sort(split.held_out[classes[split.held_out] >= 0])
        apart = split.task == UNSEEN_PRODUCTS
        gallery = searched if apart else split.train
        if len(searched) > queries:
            searched = _draw_rows(answerable(target, split, scenes), queries, rng)
        if among is not None and len(gallery) > among:
            right = np.isin(classes[gallery], classes[searched])
            others = _draw_rows(gallery[~right], max(among - int(right.sum()), 0), rng)
            gallery = np.sort(np.concatenate([gallery[right], others]))
        return cls(searched, gallery, classes, own, apart)

    def measured(self, asked: NDArray[Any], vectors: NDArray[Any], at_once: int = SIMILARITIES_AT_ONCE) -> PerQuery:
        """Measure by unit vectors of the queries and of the gallery. ``at_once``: similarities in memory."""
        parts = []
        step = max(1, at_once // max(1, len(self.gallery)))
        for start in range(0, len(self.queries), step):
            rows = self.queries[start : start + step]
            candidates = self.scenes[rows][:, None] != self.scenes[self.gallery][None] if self.apart else None
            gains = self.classes[rows][:, None] == self.classes[self.gallery][None]
            parts.append(evaluate(asked[start : start + step] @ vectors.T, gains, candidates=candidates))
        return concatenate(parts)


def _draw_rows(rows: Indices, most: int, rng: np.random.Generator) -> Indices:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def embed_by(head: LinearHead) -> Embed:
    """Return the embedding by a head: features to unit vectors, as an extractor makes them, up to rounding."""
    return lambda features: l2_normalise(projected(head, features))


def learned_embed(features: NDArray[Any], labels: Labels, split: Split, settings: HeadSettings) -> Embed:
    """Return the embedding by a head that is learned from the split's ``train``."""
    return embed_by(HeadLearner(Moments(features[split.train], take(labels, split.train))).head(settings).head)


def unchanged(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors as they are: an ``Embed`` for those that are embeddings already."""
    return np.asarray(vectors, np.float32)
