"""Backbone features of a whole catalogue: kept ones where there are any, the rest from the pictures."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..evaluation.catalogue import Catalogue
from ..evaluation.pictures import Unreadable, decoded
from ..extractors import ExtractorSpec
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..learning.augment import views
from ..spaces import features

PAGE = 500
"""Kept features that are read at a time: 1.3 MB of them with 1,280 features."""
AT_ONCE = 32
"""Pictures that are embedded at a time."""

Show = Callable[[int, int], None]
"""Told how many pictures are through, of how many."""


@dataclass(frozen=True)
class Features:
    """Features of the pictures that were asked for, in that order."""

    rows: NDArray[np.float16]
    """``(n, width)``; zeros where a picture has none."""
    there: NDArray[np.bool_]
    """``(n,)``: whether the picture could be read."""
    reasons: Counter[str] = dataclass_field(default_factory=Counter)
    """Why the others couldn't."""


def catalogue_features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    show: Show = lambda count, total: None,
    rows: Sequence[int] | None = None,
) -> Features:
    """The features of every picture, or of some ``rows``. What had to be computed is kept (``FEATURE_CACHE_ROWS``)."""
    wanted = range(len(catalogue)) if rows is None else rows
    return _features(field, extractor, catalogue, wanted, extractor.features_key, lambda picture, i: picture, show)


def view_features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Sequence[int],
    count: int,
    show: Show = lambda count, total: None,
) -> list[Features]:
    """Features of ``count`` altered views of the pictures ``rows``, a Features per view; kept as pictures' are.

    ``show`` starts anew for each view."""
    return [
        _features(
            field,
            extractor,
            catalogue,
            rows,
            f"{extractor.features_key}+{number}",
            View(field, catalogue, number),
            show,
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class View:
    """The altered view of that number, of each picture; the same whenever it is made."""

    field: EmbeddingField
    catalogue: Catalogue
    number: int

    def __call__(self, picture: NDArray[np.uint8], i: int) -> NDArray[np.uint8]:
        seed = zlib.crc32(f"{self.field.label} {self.catalogue.keys[i]}".encode())
        return np.asarray(views(Image.fromarray(picture), self.number + 1, [seed])[self.number])


def pixels(
    field: EmbeddingField, spec: ExtractorSpec, catalogue: Catalogue, rows: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
    """(row, its picture, uint8 ``(s, s, 3)``, or why it can't be read), the latter last."""
    told = Unreadable()
    for batch in decoded(field, [catalogue.images[row] for row in rows], spec, told):
        for place, picture in zip(batch.places, batch.pixels, strict=True):
            yield rows[place], picture
    for place, why in told.reasons.items():
        yield rows[place], why


def _features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Sequence[int],
    features_key: str,
    change: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
    show: Show,
) -> Features:
    place = {row: i for i, row in enumerate(rows)}
    kept = _kept(field, catalogue, rows, features_key)
    width = extractor.width or (len(next(iter(kept.values()))) if kept else 0)
    found = Features(np.zeros((len(rows), width), np.float16), np.zeros(len(rows), bool))
    for row, numbers in kept.items():
        found.rows[place[row]], found.there[place[row]] = numbers, True
    left = [row for row in rows if row not in kept]
    keeper = features.Keeper(field, features_key) if left else None
    batch: list[tuple[int, NDArray[np.uint8]]] = []

    def infer() -> None:
        nonlocal found
        made = extractor.kept_features(np.stack([picture for _, picture in batch]))
        if not found.rows.shape[1]:  # only the loaded backbone knew how wide its features are
            found = Features(np.zeros((len(rows), made.shape[1]), np.float16), found.there, found.reasons)
        places = [place[row] for row, _ in batch]
        found.rows[places], found.there[places] = made, True
        if keeper is not None:
            keeper.keep([(str(catalogue.keys[row]), catalogue.images[row]) for row, _ in batch], made)
        batch.clear()

    done = len(kept)
    show(done, len(rows))
    for row, picture in pixels(field, extractor.spec, catalogue, left):
        done += 1
        if isinstance(picture, str):
            found.reasons[picture] += 1
        else:
            batch.append((row, change(picture, row)))
        if len(batch) >= AT_ONCE:
            infer()
            show(done, len(rows))
    if batch:
        infer()
    show(done, len(rows))
    return found


def _kept(
    field: EmbeddingField, catalogue: Catalogue, rows: Sequence[int], features_key: str
) -> dict[int, NDArray[np.float16]]:
    found: dict[int, Any] = {}
    for start in range(0, len(rows), PAGE):
        page = rows[start : start + PAGE]
        wanted = {str(catalogue.keys[i]): i for i in page}
        pictures = [(key, catalogue.images[i]) for key, i in wanted.items()]
        found |= {wanted[key]: row for key, row in features.read(field, features_key, pictures).items()}
    return found
