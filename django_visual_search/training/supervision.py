"""Gather what a shop has to learn from: labels, several pictures of one product, altered views of one, and feedback.

Entry function: ``gather``. It returns a ``Supervision``: features, labels and scenes of pictures and views. Products
that shoppers *liked together*, as similar items of one another, share a label too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from django.db import router
from numpy.typing import NDArray

from ..evaluation.catalogue import Catalogue, pictures_each, read_catalogue
from ..extractors.backbone import BackboneExtractor
from ..extractors.classic import ClassicExtractor
from ..fields import EmbeddingField
from ..learning.labels import grouping, require
from ..learning.splits import Indices, near_duplicates
from ..models import Evidence
from ..ranking.reading import model_of
from .features import Show, catalogue_features, view_features

USUAL_LABELS = ("category", "brand")
"""Labels to learn from where none are named, as far as the product has them."""

PRODUCT, LIKED = "product", "liked together"

VIEWS_OF_SINGLE = 3
"""Altered views of a product with a single picture."""
MOST_VIEWED = 5_000
"""Products that views are made of at most: they show how photos of anything differ, which more show no better."""


@dataclass(frozen=True)
class Supervision:
    """Readable pictures and views with their features and labels."""

    features: NDArray[np.float16]
    """``(n, width)``"""
    labels: dict[str, list[str]]
    """PRODUCT, the named ones, and LIKED where there is feedback: a label a row, "" for none."""
    scenes: Indices
    """See ``near_duplicates``."""
    pictures: Indices
    """``(n,)``: the row in the catalogue; of a view, its picture's."""
    view: Indices
    """``(n,)``: which altered view of its picture a row is, from 0; -1 for the picture itself."""
    catalogue: Catalogue
    unread: Counter[str]
    """Why pictures could not be read."""

    def describe(self) -> list[str]:
        """Return lines for people: what there is to learn from."""
        views = int((self.view >= 0).sum())
        lines = [f"{len(self.features) - views} pictures"]
        lines[0] += f" and {views} altered views of products with one" if views else ""
        for name, values in self.labels.items():
            group = grouping(name, values, len(values))
            lines.append(f"{name}: {len(group.counts)} of them on {int(group.counts.sum())} pictures")
        if self.unread:
            lines += [f"not read: {count}: {why}" for why, count in self.unread.most_common()]
        return lines


def gather(
    field: EmbeddingField, extractor: BackboneExtractor, labels: Sequence[str], *, most: int, seed: int, show: Show
) -> Supervision:
    """Read at most ``most`` pictures of the catalogue and compute the features that aren't kept.

    ``show`` starts again for the altered views, and for the features that scenes are found by: each can take minutes.
    Raises LookupError for an unknown label path and ValueError where no picture can be read.
    """
    require()  # before the minutes that features take
    catalogue = read_catalogue(field, labels, limit=most, seed=seed)
    made = catalogue_features(field, extractor, catalogue, show)
    rows = np.flatnonzero(made.readable)
    if not len(rows):
        why = " ".join(f"{count}: {reason}" for reason, count in made.reasons.most_common()) or "there are none"
        raise ValueError(f"{field.label} has no pictures to learn from ({why}).")
    single = _single(catalogue, rows, seed)
    altered = view_features(field, extractor, catalogue, single, VIEWS_OF_SINGLE, show) if single else []
    pictures = np.concatenate([rows, *(np.array(single)[one.readable] for one in altered)])
    view = np.repeat(np.arange(-1, len(altered)), [len(rows), *(int(one.readable.sum()) for one in altered)])
    features = np.concatenate([made.rows[rows], *(one.rows[one.readable] for one in altered)])
    named = {PRODUCT: catalogue.products, **catalogue.labels}
    liked = liked_together(field)
    if liked:
        named[LIKED] = [liked.get(product, "") for product in catalogue.products]
    taken = {name: [values[i] for i in pictures] for name, values in named.items()}
    scenes = _scenes(field, extractor, catalogue, rows, made.rows[rows], show)
    own = np.arange(len(pictures) - len(rows)) + (int(scenes.max()) + 1)  # each view is a scene of its own
    scenes = np.concatenate([scenes, own])
    return Supervision(features, taken, scenes, pictures, view, catalogue, Counter(made.reasons))


def _scenes(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Indices,
    features: NDArray[np.float16],
    show: Show,
) -> Indices:
    """Return the scene of each picture, by the backbone and by colours and shapes together.

    A network alone misses most of them: measured on the grocery photos, 530 of 841 held-out pictures then had a
    near-duplicate among those learned from, and figures were as much too good (R@1 .78 instead of .54).
    """
    products = [catalogue.products[i] for i in rows]
    beside = None
    several = rows[pictures_each(products) > 1].tolist()
    classic = ClassicExtractor(images=asdict(extractor.image_options))
    if several and extractor.name != classic.name:
        found = catalogue_features(field, classic, catalogue, show, rows=several)
        beside = np.zeros((len(rows), classic.width), np.float32)
        beside[np.isin(rows, several)] = found.rows
    return near_duplicates(features.astype(np.float32), within=products, beside=beside)


def _single(catalogue: Catalogue, rows: Indices, seed: int) -> list[int]:
    """Return pictures of products that have no other, MOST_VIEWED of them at most."""
    single = rows[pictures_each([catalogue.products[i] for i in rows]) == 1]
    if len(single) > MOST_VIEWED:
        single = np.sort(np.random.default_rng(seed).choice(single, MOST_VIEWED, replace=False))
    return list(single.tolist())


LEAST_GAIN = 3.0
"""Gain of a pair: three clicks, or one product put into the cart. One click may be a slip."""
MOST_PAIRS = 20_000


def liked_together(field: EmbeddingField) -> dict[str, str]:
    """Map primary keys of products, as text, to the name of their pair, for products liked as similar items.

    Each product is in one pair at most, the one with the highest gain per exposure. Gains are used as stored: those
    that have decayed alike keep their order.
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
