"""Learn a head's confidence in its hits, from pictures that heads of the same settings didn't learn from.

Entry function: ``learn_confidence``. It pools *pairs*, queries with their first hits, right or wrong, over several
splits, and calibrates on them. *Further hits* of known queries have a curve of their own. *Strangers* teach it low
confidence: drawn pictures that show no product, and pictures of *unknown kinds*, searched among the others by heads
that don't know these kinds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .calibration import Calibration, ConfidenceCurve, calibrate
from .folds import TrainingPlan, take
from .identification import FirstHits, found_products, learn_identification
from .labels import Doubles, Grouping, Labels, Values, grouping
from .lda import HeadSettings
from .selection import SIMILARITIES_AT_ONCE, Embed, learned_embed
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
    plain: NDArray[np.bool_] | None = None,
    more: bool = True,
) -> Calibration | None:
    """Calibrate on unseen pictures of learned products, and on ``strangers``; the arrays are those of ``train_head``.

    ``measured``: a split, and the embedding by a head that was learned from its ``train``. ``plain``: which rows are
    pictures, where others are altered views; only pictures are searched then. ``more``: whether to pool further splits
    (``plan.confidence_splits``), which needs features that owe nothing to any of the pictures.

    Returns None where nothing could be learned; ``notes`` receive the reason. Raises ValueError for arrays that don't
    fit, and ExtractorUnavailable without scikit-learn.
    """
    names = [plan.target] + ([plan.kind] if plan.kind is not None else [])
    products = grouping(plan.target, labels[plan.target], len(features)).classes
    pairs: list[Pairs] = []
    after: list[Pairs] = []
    found: list[FirstHits] = []
    hits: list[Indices] = []
    queries = 0
    split, embed = measured
    unknown = np.zeros(len(features), bool)
    for number in range(1, plan.confidence_splits + 1):
        searched, asked = split.train, split.held_out
        if plain is not None:
            searched = searched[plain[searched]]
            asked = asked[np.isin(products[asked], products[searched])]
        if not len(searched) or not len(asked):
            break
        gallery, vectors = embed(features[searched]), embed(features[asked])
        drawn = None if strangers is None else _hardest(embed(strangers), gallery)
        query_labels, gallery_labels = (take(labels, rows) for rows in (asked, searched))
        given = [query_labels[name] for name in names], [gallery_labels[name] for name in names]
        pairs.append(first_hits(vectors, gallery, *given, strangers=drawn))
        hits.append(searched[pairs[-1].hits])
        if plan.kind is not None:
            after.append(further_hits(vectors, gallery, *given, pairs[-1].right[: len(asked)]))
        own, among = products[asked], products[searched]
        found.append(found_products(vectors, gallery, own, among, asked, at_once=SIMILARITIES_AT_ONCE))
        if drawn is not None:
            nothing = -1 - np.arange(len(drawn))
            weight = STRANGER_SHARE / (1 - STRANGER_SHARE) * len(found[-1].same) / len(drawn)
            found.append(
                found_products(drawn, gallery, nothing, among, nothing, weight=weight, at_once=SIMILARITIES_AT_ONCE)
            )
        if unknown.any():
            rows = np.flatnonzero(unknown if plain is None else unknown & plain)
            nearest, similarities = _nearest_pictures(embed(features[rows]), gallery, SIMILARITIES_AT_ONCE)
            hits.append(searched[nearest])
            each = UNKNOWN_WEIGHT * STRANGER_SHARE / (1 - STRANGER_SHARE) * len(asked) / len(rows)
            pairs.append(Pairs(nearest, similarities, np.zeros(len(rows), bool), np.full(len(rows), each)))
        queries += len(asked)
        kinds = None if plan.kind is None else labels[plan.kind]
        enough = queries >= plan.confidence_queries and (kinds is None or number > 1)
        if not more or enough or number == plan.confidence_splits:
            break
        seed = plan.seed + number * SEED_STEP
        try:
            split = unseen_pictures(labels[plan.target], share=plan.share, scenes=scenes, seed=seed)
            unknown = _unknown_kinds(kinds, len(features), seed)
            split = replace(
                split, train=split.train[~unknown[split.train]], held_out=split.held_out[~unknown[split.held_out]]
            )
            embed = learned_embed(features, labels, split, settings)
        except ValueError as e:  # the pairs of the splits before are enough then
            notes.append(f"confidence: from {number} of {plan.confidence_splits} splits: {e}")
            break
    if not pairs:
        notes.append("confidence: no product has two pictures of which one could be searched for.")
        return None
    similarities, right, weights = (
        np.concatenate([getattr(part, name) for part in pairs]) for name in ("similarities", "right", "weights")
    )
    categories = None if plan.category is None else take(labels, np.concatenate(hits))[plan.category]
    try:
        calibration = calibrate(similarities, right, categories=categories, weights=weights)
    except ValueError as e:
        notes.append(f"confidence: {e}")
        return None
    calibration = replace(calibration, further=_further_curve(after))
    try:
        return replace(calibration, same_product=learn_identification(FirstHits.pooled(found)))
    except ValueError as e:
        notes.append(f"same product: {e}")
        return calibration


def _further_curve(parts: Sequence[Pairs]) -> ConfidenceCurve | None:
    similarities, right = (
        np.concatenate([getattr(part, name) for part in parts]) if parts else np.empty(0)
        for name in ("similarities", "right")
    )
    return calibrate(similarities, right).overall if 0 < right.sum() < len(right) else None


HARDEST = 0.25
"""Share of the drawn strangers that count: those most similar to anything. Confidence has to hold for the worst."""


def _hardest(strangers: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
    if not len(strangers):
        return strangers
    similarities = _nearest_pictures(strangers, gallery, SIMILARITIES_AT_ONCE)[1]
    return strangers[np.sort(np.argsort(-similarities, kind="stable")[: math.ceil(HARDEST * len(strangers))])]


UNKNOWN_KINDS = 0.2
"""Share of the kinds that are left out at a time, to be strangers."""
FEWEST_KINDS = 3
"""Kinds from which one can be left out."""
UNKNOWN_WEIGHT = 0.3
"""Beside the drawn strangers' weight of 1. Measured with EfficientNet-Lite0 on the drawn catalogue, by a head of the
kind alone at a confidence of 0.5: without unknown kinds, 0.04 of blanks, gradients and pages of text were answered and
0.15 of pictures of packaged groceries; with them none and 0.09, and 0.997 instead of all photos of products."""


def _unknown_kinds(kinds: Values | None, count: int, seed: int) -> NDArray[np.bool_]:
    """Return which of ``count`` pictures are of the kinds to be left out."""
    group = None if kinds is None else grouping("kind", kinds, count)
    if group is None or len(group.counts) < FEWEST_KINDS:
        return np.zeros(count, bool)
    number = max(1, round(UNKNOWN_KINDS * len(group.counts)))
    left = np.random.default_rng(seed).choice(len(group.counts), number, replace=False)
    return np.isin(group.classes, left)


STRANGER_SHARE = 0.25
"""Share of queries assumed to show nothing that the shop sells, where strangers are given."""


@dataclass(frozen=True)
class Pairs:
    """A query and its first hit in each row, strangers last; all arrays are ``(pairs,)``."""

    hits: Indices
    """Row in the gallery of the nearest picture."""
    similarities: Doubles
    right: NDArray[np.bool_]
    weights: Doubles


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
    hits, similarities = _nearest_pictures(queries, gallery, at_once)
    right = np.zeros(len(queries), bool)
    for own_values, gallery_values in zip(query_labels, gallery_labels, strict=True):
        both = _together(own_values, gallery_values, len(queries), len(gallery))
        own, found = both.classes[: len(queries)], both.classes[len(queries) :][hits]
        right |= (own == found) & (own >= 0)
    weights = np.ones(len(queries))
    if strangers is not None and len(strangers) and share:
        other_hits, other_similarities = _nearest_pictures(strangers, gallery, at_once)
        hits, similarities = np.r_[hits, other_hits], np.r_[similarities, other_similarities]
        right = np.r_[right, np.zeros(len(strangers), bool)]
        each = share / (1 - share) * len(queries) / len(strangers)
        weights = np.r_[weights, np.full(len(strangers), each)]
    return Pairs(hits, similarities, right, weights)


FURTHER_HITS = 100
"""Hits of a query that teach how likely further hits are right: about as many as one looks at."""
FURTHER_QUERIES = 300
"""Queries that teach it at most, of each split."""


def further_hits(
    queries: NDArray[Any],
    gallery: NDArray[Any],
    query_labels: Sequence[Values],
    gallery_labels: Sequence[Values],
    known: NDArray[np.bool_],
    *,
    at_once: int = SIMILARITIES_AT_ONCE,
) -> Pairs:
    """Find the first FURTHER_HITS hits of the ``known`` queries, ``(q,)``, apart from pictures of their own product.

    The other arguments: as for ``first_hits``; a hit is right where a label but the first, the product, agrees.
    """
    asked = np.flatnonzero(known)
    asked = asked[:: -(-len(asked) // FURTHER_QUERIES) or 1]
    classes = [
        _together(own_values, gallery_values, len(queries), len(gallery)).classes
        for own_values, gallery_values in zip(query_labels, gallery_labels, strict=True)
    ]
    parts = []
    step = max(1, at_once // len(gallery))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        alike = [both[rows, None] == both[None, len(queries) :] for both in classes]
        alike = [same & (both[rows, None] >= 0) for same, both in zip(alike, classes, strict=True)]
        similarities = np.where(alike[0], -np.inf, queries[rows] @ gallery.T)
        hits = np.argsort(-similarities, axis=1, kind="stable")[:, :FURTHER_HITS]
        right = np.logical_or.reduce([np.take_along_axis(same, hits, axis=1) for same in alike[1:]])
        found = np.take_along_axis(similarities, hits, axis=1)
        kept = np.isfinite(found)
        parts.append((hits[kept], found[kept], np.broadcast_to(right, found.shape)[kept]))
    hits, similarities, right = (
        (np.concatenate(part) for part in zip(*parts, strict=True))
        if parts
        else (np.empty(0, np.intp), np.empty(0), np.empty(0, bool))
    )
    return Pairs(hits, similarities.astype(np.float64), right, np.ones(len(hits)))


def _nearest_pictures(queries: NDArray[Any], gallery: NDArray[Any], at_once: int) -> tuple[Indices, Doubles]:
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
    """Draw ``count`` RGB pictures of 256² pixels that show no product.

    In turn: noise, soft patches, flat shapes, lines of text, blank walls and pages of print.
    """
    makers = (_noise, _patches, _shapes, _draw_text, _wall, _draw_page)
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


def _draw_text(rng: np.random.Generator) -> Image.Image:
    paper, ink = ((255, 255, 255), (0, 0, 0)) if rng.random() < 0.5 else (_colour(rng), _colour(rng))
    page = Image.new("RGB", (STRANGER_SIDE, STRANGER_SIDE), paper)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default()
    for line in range(STRANGER_SIDE // 20):
        draw.text((8, 4 + 20 * line), "".join(map(chr, rng.integers(97, 123, 36).tolist())), fill=ink, font=font)
    return page


def _wall(rng: np.random.Generator) -> Image.Image:
    """Draw nothing: one grey, one colour, or one shaded and grainy as in a photo of a wall."""
    colour, shade = (
        (int(rng.integers(256)),) * 3 if rng.random() < 0.5 else _colour(rng),
        np.zeros((STRANGER_SIDE,) * 2),
    )
    if rng.random() < 0.4:
        y, x = np.mgrid[0:STRANGER_SIDE, 0:STRANGER_SIDE] / STRANGER_SIDE
        shade = x * rng.uniform(-60, 60) + y * rng.uniform(-60, 60) + rng.normal(0, rng.uniform(1, 6), x.shape)
    return Image.fromarray((np.array(colour) + shade[..., None]).clip(0, 255).astype(np.uint8))


def _draw_page(rng: np.random.Generator) -> Image.Image:
    """Draw dark print on light paper, in words of all lengths, up to a heading's size."""
    paper, ink = (int(rng.integers(225, 256)),) * 3, (int(rng.integers(0, 80)),) * 3
    page = Image.new("RGB", (STRANGER_SIDE, STRANGER_SIDE), paper)
    size = int(rng.integers(6, 22))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    widths = {letter: font.getlength(letter) for letter in " abcdefghijklmnopqrstuvwxyz"}
    y, margin, height = int(rng.integers(6, 30)), int(rng.integers(6, 40)), int(font.getbbox("Ag")[3]) + 3
    while y < STRANGER_SIDE - margin:
        words = ["".join(map(chr, rng.integers(97, 123, int(rng.integers(1, 10))).tolist())) for _ in range(40)]
        line = " ".join(words)
        ends = np.cumsum([widths[letter] for letter in line])
        seen = int(np.searchsorted(ends, STRANGER_SIDE - 2 * margin)) + 2  # further letters would be outside
        draw.text((margin, y), line[:seen], fill=ink, font=font)
        y += height * (2 if rng.random() < 0.1 else 1)
    draw.rectangle((STRANGER_SIDE - margin, 0, STRANGER_SIDE, STRANGER_SIDE), fill=paper)
    return page


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue
