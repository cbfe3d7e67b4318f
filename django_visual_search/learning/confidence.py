"""Learn how sure a head may be of its hits, from pictures that heads of the same settings didn't learn from.

Entry function: ``learn_confidence``. It pools *pairs*, queries with their first hits, right or wrong, over several
splits, and calibrates on them. *Strangers*, drawn pictures that show nothing any shop sells, teach it low confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .calibration import Calibration, calibrate
from .labels import Floats, Grouping, Labels, Values, grouping
from .lda import HeadSettings
from .selection import SIMILARITIES_AT_ONCE, Embed, TrainingPlan, learned_embed, take
from .splits import Indices, Split, unseen_pictures

SEED_STEP = 1000
"""Between the seeds of splits, so that none equals another seed derived from the plan's."""


def learn_confidence(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    plan: TrainingPlan,
    settings: HeadSettings,
    measured: tuple[Split, Embed],
    notes: list[str],
    *,
    scenes: Indices | None = None,
    strangers: NDArray[np.floating[Any]] | None = None,
    more: bool = True,
) -> Calibration | None:
    """Calibrate on unseen pictures of learned products, and on ``strangers``; the arrays are those of ``train_head``.

    ``measured``: a split, and the embedding by a head that was learned from its ``train``. ``more``: whether to pool
    further splits (``plan.confidence_splits``), which needs features that owe nothing to any of the pictures.

    Returns None where nothing could be learned; ``notes`` receive the reason. Raises ValueError for arrays that don't
    fit, and ExtractorUnavailable without scikit-learn.
    """
    names = [plan.target] + ([plan.kind] if plan.kind is not None else [])
    found, categories, queries = [], [], 0
    split, embed = measured
    for number in range(1, plan.confidence_splits + 1):
        query_labels, gallery_labels = (take(labels, rows) for rows in (split.held_out, split.train))
        pairs = first_hits(
            embed(features[split.held_out]),
            embed(features[split.train]),
            [query_labels[name] for name in names],
            [gallery_labels[name] for name in names],
            strangers=None if strangers is None else embed(strangers),
        )
        found.append(pairs)
        queries += len(split.held_out)
        if plan.category is not None:
            categories += [gallery_labels[plan.category][int(hit)] for hit in pairs.hits]
        if not more or queries >= plan.confidence_queries or number == plan.confidence_splits:
            break
        seed = plan.seed + number * SEED_STEP
        try:
            split = unseen_pictures(labels[plan.target], share=plan.share, scenes=scenes, seed=seed)
            embed = learned_embed(features, labels, split, settings)
        except ValueError as e:  # the pairs of the splits before are enough then
            notes.append(f"confidence: from {number} of {plan.confidence_splits} splits: {e}")
            break
    similarities, right, weights = (
        np.concatenate([getattr(pairs, name) for pairs in found]) for name in ("similarities", "right", "weights")
    )
    try:
        return calibrate(similarities, right, categories=categories if plan.category else None, weights=weights)
    except ValueError as e:
        notes.append(f"confidence: {e}")
        return None


STRANGER_SHARE = 0.25
"""Share of queries assumed to show nothing that the shop sells, where strangers are given."""


@dataclass(frozen=True)
class Pairs:
    """A query and its first hit in each row, strangers last; all arrays are ``(pairs,)``."""

    hits: Indices
    """Row in the gallery of the nearest picture."""
    similarities: Floats
    right: NDArray[np.bool_]
    weights: Floats


def first_hits(
    queries: NDArray[Any],
    gallery: NDArray[Any],
    query_labels: Sequence[Values],
    gallery_labels: Sequence[Values],
    *,
    strangers: NDArray[Any] | None = None,
    share: float = STRANGER_SHARE,
    at_once: int = SIMILARITIES_AT_ONCE,
) -> Pairs:
    """Find the first hit of each query, right where any of the labels agrees.

    ``queries`` and ``gallery``: unit vectors ``(q, d)`` and ``(g, d)``. ``query_labels`` and ``gallery_labels``: the
    same one or several labels of both: by the product alone a hit is right if it is the very product, by the category
    too if it is of that kind. Queries none of whose labels is in the gallery count as wrong.
    ``strangers``: vectors ``(s, d)`` of pictures of other things, weighed as ``share`` of all queries. ``at_once``:
    similarities in memory at a time.

    First hits alone, because they decide whether an answer is worth showing. With the first five, in which few can be
    right, the same similarity would mean half the confidence: measured on grocery photos of other scenes, 0.65 of the
    right first hits had a confidence of 0.5, and their calibration error was 0.22; here 0.92 and 0.07.

    Raises ValueError for a share outside 0 to below 1, and for labels that don't fit.
    """
    if not 0 <= share < 1:
        raise ValueError(f"The share of strangers must be from 0 to below 1, not {share}.")
    if not query_labels or len(query_labels) != len(gallery_labels):
        raise ValueError(f"Queries have {len(query_labels)} labels, the gallery has {len(gallery_labels)}.")
    if not len(gallery) or not len(queries):
        raise ValueError("There are no queries or no pictures to find.")
    hits, similarities = _nearest(queries, gallery, at_once)
    right = np.zeros(len(queries), bool)
    for own_values, gallery_values in zip(query_labels, gallery_labels, strict=True):
        both = _together(own_values, gallery_values, len(queries), len(gallery))
        own, found = both.classes[: len(queries)], both.classes[len(queries) :][hits]
        right |= (own == found) & (own >= 0)
    weights = np.ones(len(queries))
    if strangers is not None and len(strangers) and share:
        other_hits, other_similarities = _nearest(strangers, gallery, at_once)
        hits, similarities = np.r_[hits, other_hits], np.r_[similarities, other_similarities]
        right = np.r_[right, np.zeros(len(strangers), bool)]
        each = share / (1 - share) * len(queries) / len(strangers)
        weights = np.r_[weights, np.full(len(strangers), each)]
    return Pairs(hits, similarities, right, weights)


def _nearest(queries: NDArray[Any], gallery: NDArray[Any], at_once: int) -> tuple[Indices, Floats]:
    hits, best = np.empty(len(queries), np.intp), np.empty(len(queries))
    step = max(1, at_once // len(gallery))
    for start in range(0, len(queries), step):
        similarities = queries[start : start + step] @ gallery.T
        some = similarities.argmax(axis=1)
        hits[start : start + step] = some
        best[start : start + step] = np.take_along_axis(similarities, some[:, None], axis=1)[:, 0]
    return hits, best


def _together(query_values: Values, gallery_values: Values, queries: int, gallery: int) -> Grouping:
    """Assign the labels of both the same numbers, queries first."""
    both = (query_values, gallery_values)
    plain = [list(values.tolist() if isinstance(values, np.ndarray) else values) for values in both]
    if (len(plain[0]), len(plain[1])) != (queries, gallery):
        raise ValueError(f"There are {len(plain[0])} and {len(plain[1])} labels for {queries} queries and {gallery}.")
    return grouping("right", plain[0] + plain[1], queries + gallery)


STRANGER_SIDE = 256


def draw_strangers(count: int, seed: int = 0) -> list[Image.Image]:
    """Draw ``count`` RGB pictures of 256² pixels: noise, soft patches, flat shapes and lines of text, in turn."""
    makers = (_noise, _patches, _shapes, _text)
    return [makers[i % len(makers)](np.random.default_rng([seed, i])) for i in range(count)]


def _noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (STRANGER_SIDE, STRANGER_SIDE, 3), dtype=np.uint8))


def _patches(rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(3, 40))
    patches = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return patches.resize((STRANGER_SIDE, STRANGER_SIDE), Image.Resampling.BICUBIC)


def _shapes(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (STRANGER_SIDE, STRANGER_SIDE), _colour(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 12))):
        (x0, x1), (y0, y1) = np.sort(rng.integers(0, STRANGER_SIDE, (2, 2)), axis=1).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x0, y0, x1, y1), fill=_colour(rng))
    return picture


def _text(rng: np.random.Generator) -> Image.Image:
    paper, ink = ((255, 255, 255), (0, 0, 0)) if rng.random() < 0.5 else (_colour(rng), _colour(rng))
    page = Image.new("RGB", (STRANGER_SIDE, STRANGER_SIDE), paper)
    draw = ImageDraw.Draw(page)
    for line in range(STRANGER_SIDE // 20):
        draw.text((8, 4 + 20 * line), "".join(map(chr, rng.integers(97, 123, 36).tolist())), fill=ink)
    return page


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue
