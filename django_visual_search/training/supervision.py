"""Gather a shop's labels, several pictures of one product, altered views and feedback, to learn from.

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
from ..extractors.looks import NetworkExtractor, descriptors_of
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
"""Altered views of a product with a single picture, at most."""
MOST_VIEWS = 1_000
"""Altered views in all, so that they take seconds: they show how photos of anything differ. On 2,640 grocery photos as
one product each, a view of 300 of them kept altered views findable as well as a view of 1,000 did."""


SEVERAL = 0.3
"""Share of the pictures that are beyond the first of their product."""


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
    """Reasons why pictures could not be read."""
    left_out: tuple[str, ...] = ()
    """Labels that are not learned from, with the reasons."""

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Whether each row is a picture and not an altered view, ``(n,)``."""
        return np.asarray(self.view < 0)

    @property
    def several(self) -> bool:
        """Whether enough products have several pictures to learn from how these differ."""
        group = grouping(PRODUCT, [self.labels[PRODUCT][i] for i in np.flatnonzero(self.plain)], int(self.plain.sum()))
        return group.spare >= SEVERAL * group.counts.sum() and group.spare > 0

    def describe(self) -> list[str]:
        """Return lines for people about the data to learn from."""
        views = int((self.view >= 0).sum())
        lines = [f"{len(self.features) - views} pictures"]
        lines[0] += f" and {views} altered views of products with one" if views else ""
        for name, values in self.labels.items():
            group = grouping(name, values, len(values))
            lines.append(f"{name}: {len(group.counts)} of them on {int(group.counts.sum())} pictures")
        lines += self.left_out
        if self.unread:
            lines += [f"not read: {count}: {why}" for why, count in self.unread.most_common()]
        return lines


def gather(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    labels: Sequence[str],
    *,
    most: int,
    seed: int,
    show: Show,
    named: bool = True,
) -> Supervision:
    """Read at most ``most`` pictures of the catalogue and compute the features that aren't kept.

    ``named``: whether a person named the ``labels``; others are left out where nothing can be learned from them.

    ``show`` starts again for the altered views, and for the features that scenes are found by: each can take minutes.
    Raises LookupError for an unknown label path; ValueError where no picture can be read, or a label teaches nothing.
    """
    require()  # before the minutes that features take
    catalogue = read_catalogue(field, labels, limit=most, seed=seed)
    taught, left_out = _teaching(catalogue, named)
    made = catalogue_features(field, extractor, catalogue, show)
    rows = np.flatnonzero(made.readable)
    if not len(rows):
        why = " ".join(f"{count}: {reason}" for reason, count in made.reasons.most_common()) or "there are none"
        raise ValueError(f"{field.label} has no pictures to learn from ({why}).")
    single, each = _single(catalogue, rows, seed)
    altered = view_features(field, extractor, catalogue, single, each, show) if single else []
    pictures = np.concatenate([rows, *(np.array(single)[one.readable] for one in altered)])
    view = np.repeat(np.arange(-1, len(altered)), [len(rows), *(int(one.readable.sum()) for one in altered)])
    features = np.concatenate([made.rows[rows], *(one.rows[one.readable] for one in altered)])
    values = {PRODUCT: catalogue.products, **{name: catalogue.labels[name] for name in taught}}
    liked = liked_together(field)
    if liked:
        values[LIKED] = [liked.get(product, "") for product in catalogue.products]
    taken = {name: [own[i] for i in pictures] for name, own in values.items()}
    scenes = _scenes(field, extractor, catalogue, rows, made.rows[rows], taught, show)
    own = np.arange(len(pictures) - len(rows)) + (int(scenes.max()) + 1)  # each view is a scene of its own
    scenes = np.concatenate([scenes, own])
    return Supervision(features, taken, scenes, pictures, view, catalogue, Counter(made.reasons), tuple(left_out))


NEARLY_UNIQUE = 0.1
"""Share of the products that must have the label's value in common with another."""


def _teaching(catalogue: Catalogue, named: bool) -> tuple[list[str], list[str]]:
    """Return the useful labels, and why others aren't; raises ValueError for the latter if ``named``."""
    taught, left_out = [], []
    for label, values in catalogue.labels.items():
        pairs = enumerate(zip(catalogue.products, values, strict=True))
        of_product = {product or f"picture {i}": value for i, (product, value) in pairs if value}
        counts = Counter(of_product.values())
        shared = sum(count for count in counts.values() if count > 1)
        why = ""
        if not counts:
            why = "no product has a value"
        elif len(counts) == 1:
            why = f"all {len(of_product)} products have the same value, so that it tells nothing apart"
        elif shared < NEARLY_UNIQUE * len(of_product):
            why = (
                f"{len(counts)} values for {len(of_product)} products are nearly one each, so that it doesn't say "
                "which products are alike"
            )
        if not why:
            taught.append(label)
        elif named:
            raise ValueError(
                f"Nothing can be learned from {label!r}: {why}. Leave it out of --labels, or name a label that several "
                "products share, such as their kind."
            )
        else:
            left_out.append(f"{label} is left out: {why}")
    return taught, left_out


def _scenes(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Indices,
    features: NDArray[np.float16],
    labels: Sequence[str],
    show: Show,
) -> Indices:
    """Return the scene of each picture, by the backbone and by colours and shapes together.

    A network alone misses most of them: measured on the grocery photos, 530 of 841 held-out pictures then had a
    near-duplicate among those learned from, and figures were as much too good (R@1 .78 instead of .54). Pictures of one
    product are compared, and those of one value of the first label.
    """
    products = [catalogue.products[i] for i in rows]
    within = [f"product {product}" if product else "" for product in products]
    if labels:
        values = [catalogue.labels[labels[0]][i] for i in rows]
        within = [value or own for value, own in zip(values, within, strict=True)]
    if isinstance(extractor, NetworkExtractor) and extractor.looks and extractor.network_width:
        seen, looks = np.split(features.astype(np.float32), [extractor.network_width], axis=1)
        return near_duplicates(seen, within=within, beside=descriptors_of(looks))
    beside = None
    several = rows[pictures_each(within) > 1].tolist()
    classic = ClassicExtractor(images=asdict(extractor.image_options))
    if several and extractor.name != classic.name:
        found = catalogue_features(field, classic, catalogue, show, rows=several)
        beside = np.zeros((len(rows), classic.width), np.float32)
        beside[np.isin(rows, several)] = found.rows
    return near_duplicates(features.astype(np.float32), within=within, beside=beside)


def _single(catalogue: Catalogue, rows: Indices, seed: int) -> tuple[list[int], int]:
    """Return pictures of products that have no other, and how many views of each make MOST_VIEWS at most."""
    single = rows[pictures_each([catalogue.products[i] for i in rows]) == 1]
    each = int(np.clip(MOST_VIEWS // max(1, len(single)), 1, VIEWS_OF_SINGLE))
    if len(single) * each > MOST_VIEWS:
        single = np.sort(np.random.default_rng(seed).choice(single, MOST_VIEWS // each, replace=False))
    return list(single.tolist()), each


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
