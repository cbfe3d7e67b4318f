"""Return backbone features of a whole catalogue: kept ones from the database, the rest computed from the pictures.

Entry functions: ``catalogue_features``, and ``view_features`` of altered views. Computed features are kept up to
``FEATURE_CACHE_ROWS``.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..evaluation.catalogue import Catalogue
from ..evaluation.pictures import Unreadable, decoded_batches
from ..extractors import ExtractorSpec
from ..extractors.backbone import BackboneExtractor
from ..extractors.litert import usual_threads
from ..fields import EmbeddingField
from ..learning.augment import altered_view
from ..spaces import features

FEATURES_PAGE = 500
"""Kept features read at a time: 1.3 MB of them with 1,280 features."""
EMBEDDED_AT_ONCE = 32
"""Pictures embedded at a time."""

Show = Callable[[int, int], None]
"""Receives the number of pictures done, and of all."""


@dataclass(frozen=True)
class CatalogueFeatures:
    """Features of the requested pictures, in that order."""

    rows: NDArray[np.float16]
    """``(n, width)``; zeros where a picture couldn't be read."""
    readable: NDArray[np.bool_]
    """``(n,)``"""
    reasons: Counter[str] = dataclass_field(default_factory=Counter)
    """Reasons why the others couldn't be read."""


def catalogue_features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    show: Show = lambda count, total: None,
    rows: Sequence[int] | None = None,
) -> CatalogueFeatures:
    """Return the features of every picture, or of some ``rows``.

    Raises ExtractorUnavailable where the extractor can't run.
    """
    every = range(len(catalogue)) if rows is None else rows
    return _features(field, extractor, catalogue, every, extractor.features_key, lambda picture, i: picture, show)


def view_features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Sequence[int],
    count: int,
    show: Show = lambda count, total: None,
) -> list[CatalogueFeatures]:
    """Return the features of ``count`` altered views of the pictures ``rows``, one result for each number of view.

    ``show`` starts again for each. Raises ExtractorUnavailable where the extractor can't run.
    """
    return [
        _features(
            field,
            extractor,
            catalogue,
            rows,
            f"{extractor.features_key}+{number}",
            AlteredView(field, catalogue, number),
            show,
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class AlteredView:
    """Makes the altered view of that number of each picture; always the same."""

    field: EmbeddingField
    catalogue: Catalogue
    number: int

    def __call__(self, picture: NDArray[np.uint8], i: int) -> NDArray[np.uint8]:
        seed = zlib.crc32(f"{self.field.label} {self.catalogue.keys[i]}".encode())
        return np.asarray(altered_view(Image.fromarray(picture), self.number, [seed]))


def decoded_rows(
    field: EmbeddingField, spec: ExtractorSpec, catalogue: Catalogue, rows: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
    """Yield (row, picture), uint8 ``(s, s, 3)``; then (row, reason) for each that can't be read."""
    unreadable = Unreadable()
    for batch in decoded_batches(field, [catalogue.images[row] for row in rows], spec, unreadable):
        for place, picture in zip(batch.places, batch.pixels, strict=True):
            yield rows[place], picture
    for place, why in unreadable.reasons.items():
        yield rows[place], why


def _features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Sequence[int],
    features_key: str,
    change: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
    show: Show,
) -> CatalogueFeatures:
    place = {row: i for i, row in enumerate(rows)}
    kept = _read_kept(field, catalogue, rows, features_key)
    width = extractor.width or (len(next(iter(kept.values()))) if kept else 0)
    found = CatalogueFeatures(np.zeros((len(rows), width), np.float16), np.zeros(len(rows), bool))
    for row, numbers in kept.items():
        found.rows[place[row]], found.readable[place[row]] = numbers, True
    missing = [row for row in rows if row not in kept]
    keeper = features.Keeper(field, features_key) if missing else None
    batch: list[tuple[int, NDArray[np.uint8]]] = []

    def infer(threads: Executor) -> None:
        nonlocal found
        pictures = list(threads.map(lambda one: change(one[1], one[0]), batch))
        made = extractor.kept_features(np.stack(pictures))
        if not found.rows.shape[1]:  # the width is unknown until the backbone is loaded
            found = CatalogueFeatures(np.zeros((len(rows), made.shape[1]), np.float16), found.readable, found.reasons)
        places = [place[row] for row, _ in batch]
        found.rows[places], found.readable[places] = made, True
        if keeper is not None:
            keeper.keep([(str(catalogue.keys[row]), catalogue.images[row]) for row, _ in batch], made)
        batch.clear()

    done = len(kept)
    show(done, len(rows))
    with ThreadPoolExecutor(usual_threads()) as threads:  # Pillow lets others run while it works
        for row, picture in decoded_rows(field, extractor.spec, catalogue, missing):
            done += 1
            if isinstance(picture, str):
                found.reasons[picture] += 1
            else:
                batch.append((row, picture))
            if len(batch) >= EMBEDDED_AT_ONCE:
                infer(threads)
                show(done, len(rows))
        if batch:
            infer(threads)
    show(done, len(rows))
    return found


def _read_kept(
    field: EmbeddingField, catalogue: Catalogue, rows: Sequence[int], features_key: str
) -> dict[int, NDArray[np.float16]]:
    found: dict[int, Any] = {}
    for start in range(0, len(rows), FEATURES_PAGE):
        page = {str(catalogue.keys[i]): i for i in rows[start : start + FEATURES_PAGE]}
        pictures = [(key, catalogue.images[i]) for key, i in page.items()]
        found |= {page[key]: row for key, row in features.read(field, features_key, pictures).items()}
    return found
