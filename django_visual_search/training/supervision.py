"""What shoppers say belongs together: products that were liked as similar items of one another.

What a shop has to learn from: labels, several pictures of one product, altered views of one, and feedback.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from django.core.exceptions import FieldDoesNotExist
from django.db import router
from numpy.typing import NDArray

from ..evaluation.catalogue import Catalogue, read_catalogue
from ..extractors.backbone import BackboneExtractor
from ..extractors.classic import ClassicExtractor
from ..fields import EmbeddingField
from ..learning.labels import grouping
from ..learning.splits import Indices, near_duplicates
from ..models import Evidence
from ..ranking.reading import model_of
from .features import Show, catalogue_features, view_features

LEAST_GAIN = 3.0
"""Of a pair: three clicks, or one product put into the cart. One click may be a slip."""
MOST_PAIRS = 20_000


def liked_together(field: EmbeddingField) -> dict[str, str]:
    """Product's primary key as text -> the name of its pair, for products that shoppers liked as similar items.

    Each product is in one pair at most, that with the highest gain per look. Gains are as they were written down:
    what has faded alike keeps its order.
    """
    rows = Evidence.objects.using(router.db_for_read(field.model)).filter(model=model_of(field), gain__gte=LEAST_GAIN)
    pairs = [
        (gain / max(exposure, 1.0), *sorted((query_id, object_id)))
        for query_id, object_id, gain, exposure in rows.exclude(query_id="")
        .order_by("-gain", "query_id", "object_id")
        .values_list("query_id", "object_id", "gain", "exposure")[:MOST_PAIRS]
        if query_id != object_id
    ]
    found: dict[str, str] = {}
    for _, one, other in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        if one not in found and other not in found:
            found[one] = found[other] = f"{one} {other}"
    return found


USUAL = ("category", "brand")
"""Labels that are learned from where none are named, as far as the product has them."""

PRODUCT, LIKED = "product", "liked together"

VIEWS = 3
"""Altered views of a product with a single picture."""
MOST_VIEWED = 5_000
"""Products that views are made of: they tell how photos of anything differ, which more of them tell no better."""


@dataclass(frozen=True)
class Supervision:
    """Pictures and views with their features and labels; rows that could not be read are left out."""

    features: NDArray[np.float16]
    """``(n, width)``"""
    labels: dict[str, list[str]]
    """PRODUCT, those that were named, and LIKED where there is feedback: a label a row, empty for none."""
    scenes: Indices
    """See ``near_duplicates``."""
    pictures: Indices
    """``(n,)``: the row in the catalogue; views have that of their picture."""
    view: Indices
    """``(n,)``: which altered view of its picture a row is, from 0; -1 for the picture itself."""
    catalogue: Catalogue
    unread: Counter[str]
    """Why pictures could not be read."""

    def describe(self) -> list[str]:
        """For people: what there is to learn from."""
        views = int((self.view >= 0).sum())
        lines = [f"{len(self.features) - views} pictures"]
        lines[0] += f" and {views} altered views of products with one" if views else ""
        for name, values in self.labels.items():
            group = grouping(name, values, len(values))
            lines.append(f"{name}: {len(group.counts)} of them on {int(group.counts.sum())} pictures")
        if self.unread:
            lines += [f"not read: {count}: {why}" for why, count in self.unread.most_common()]
        return lines


def usual_labels(field: EmbeddingField) -> list[str]:
    """Those of USUAL that the product has."""
    found = []
    for name in USUAL:
        try:
            field.product_model._meta.get_field(name)
        except FieldDoesNotExist:
            continue
        found.append(name)
    return found


def gather(
    field: EmbeddingField, extractor: BackboneExtractor, labels: Sequence[str], *, most: int, seed: int, show: Show
) -> Supervision:
    """Read the catalogue, ``most`` pictures of it, and make what features are not kept.

    ``show`` starts anew for the altered views, and for what tells scenes apart: each can take minutes.
    Raises LookupError for an unknown label path and ValueError where no picture can be read.
    """
    catalogue = read_catalogue(field, labels).sample(most, seed)
    made = catalogue_features(field, extractor, catalogue, show)
    there = np.flatnonzero(made.there)
    if not len(there):
        why = " ".join(f"{count}: {reason}" for reason, count in made.reasons.most_common()) or "there are none"
        raise ValueError(f"{field.label} has no pictures to learn from ({why}).")
    single = _single(catalogue, there, seed)
    altered = view_features(field, extractor, catalogue, single, VIEWS, show) if single else []
    pictures = np.concatenate([there, *(np.array(single)[one.there] for one in altered)])
    view = np.repeat(np.arange(-1, len(altered)), [len(there), *(int(one.there.sum()) for one in altered)])
    features = np.concatenate([made.rows[there], *(one.rows[one.there] for one in altered)])
    named = {PRODUCT: catalogue.products, **catalogue.labels}
    liked = liked_together(field)
    if liked:
        named[LIKED] = [liked.get(product, "") for product in catalogue.products]
    taken = {name: [values[i] for i in pictures] for name, values in named.items()}
    scenes = _scenes(field, extractor, catalogue, there, made.rows[there], show)
    own = np.arange(len(pictures) - len(there)) + (int(scenes.max()) + 1)  # each view is a scene of its own
    scenes = np.concatenate([scenes, own])
    return Supervision(features, taken, scenes, pictures, view, catalogue, Counter(made.reasons))


def _scenes(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: NDArray[Any],
    features: NDArray[np.float16],
    show: Show,
) -> Indices:
    """Which pictures of a product show one scene, by the backbone and by colours and shapes together.

    A network alone misses most of them: measured on the grocery photos, 530 of 841 held-out pictures then had a
    near-duplicate among those learned from, and figures were as much too good (R@1 .78 instead of .54).
    """
    products = _products(catalogue, rows)
    beside = None
    several = [int(row) for row, count in zip(rows, _counts(products), strict=True) if count > 1]
    classic = ClassicExtractor(images=asdict(extractor.image_options))
    if several and extractor.name != classic.name:
        found = catalogue_features(field, classic, catalogue, show, rows=several)
        beside = np.zeros((len(rows), classic.width), np.float32)
        beside[np.isin(rows, several)] = found.rows
    return near_duplicates(features.astype(np.float32), within=products, beside=beside)


def _counts(products: list[str]) -> list[int]:
    counts = Counter(products)
    return [counts[product] if product else 1 for product in products]


def _products(catalogue: Catalogue, rows: NDArray[Any]) -> list[str]:
    return [catalogue.products[i] for i in rows]


def _single(catalogue: Catalogue, rows: NDArray[Any], seed: int) -> list[int]:
    """Pictures of products that have no other, MOST_VIEWED of them at most."""
    counts = Counter(_products(catalogue, rows))
    single = [int(i) for i in rows if catalogue.products[i] and counts[catalogue.products[i]] == 1]
    if len(single) > MOST_VIEWED:
        single = sorted(np.random.default_rng(seed).choice(single, MOST_VIEWED, replace=False).tolist())
    return single
