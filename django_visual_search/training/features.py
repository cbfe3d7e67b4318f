"""Backbone features of a whole catalogue: kept ones where there are any, the rest from the pictures."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import feature_cache
from ..catalogue import Catalogue
from ..decoder_pool import get_pool
from ..decoding import DecoderLost
from ..extractors import ExtractorSpec
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..images import ImageRefused
from ..learning.augment import views

PAGE = 500
"""Kept features that are read at a time: 1.3 MB of them with 1,280 features."""
AT_ONCE = 32
"""Pictures that are decoded while as many are embedded."""

Show = Callable[[int], None]
"""Told how many pictures are through."""


@dataclass(frozen=True)
class Features:
    """Features of pictures, rows as in the catalogue."""

    rows: NDArray[np.float16]
    """``(n, width)``; zeros where a picture has none."""
    there: NDArray[np.bool_]
    """``(n,)``: whether the picture could be read."""
    reasons: Counter[str] = dataclass_field(default_factory=Counter)
    """Why the others couldn't."""


def catalogue_features(
    field: EmbeddingField, extractor: BackboneExtractor, catalogue: Catalogue, show: Show = lambda count: None
) -> Features:
    """The features of every picture. What had to be computed is kept (``FEATURE_CACHE_ROWS``)."""
    every = list(range(len(catalogue)))
    return _features(field, extractor, catalogue, every, extractor.features_key, lambda picture, i: picture, show)


def view_features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Sequence[int],
    count: int,
    show: Show = lambda count: None,
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
            _View(field, catalogue, number),
            show,
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class _View:
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
    """(row, its picture, uint8 ``(s, s, 3)``, or the code of what is wrong with it), decoded ahead on all cores."""
    pool, storage, size = get_pool(), field.image_field.storage, spec.input_size
    ahead: list[tuple[int, NDArray[np.uint8], Future[None]]] = []

    def wait() -> tuple[int, NDArray[np.uint8] | str]:
        i, into, future = ahead.pop(0)
        try:
            future.result()
        except ImageRefused as e:
            return i, e.code
        except DecoderLost as e:
            return i, e.code
        except FileNotFoundError:
            return i, "missing_file"
        except OSError as e:
            return i, f"storage: {e}"
        return i, into

    for i in rows:
        into = np.empty((size, size, 3), np.uint8)
        ahead.append((i, into, pool.submit(storage, catalogue.images[i], spec, into)))
        if len(ahead) > 2 * AT_ONCE:
            yield wait()
    while ahead:
        yield wait()


def _features(
    field: EmbeddingField,
    extractor: BackboneExtractor,
    catalogue: Catalogue,
    rows: Sequence[int],
    features_key: str,
    change: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
    show: Show,
) -> Features:
    kept = _kept(field, catalogue, rows, features_key)
    left = [i for i in rows if i not in kept]
    width = extractor.width or (len(next(iter(kept.values()))) if kept else None)
    found = Features(np.zeros((len(catalogue), width or 0), np.float16), np.zeros(len(catalogue), bool))
    for i, row in kept.items():
        found.rows[i], found.there[i] = row, True
    done = len(kept)
    keeper = feature_cache.Keeper(field, features_key) if left else None
    batch: list[tuple[int, NDArray[np.uint8]]] = []

    def infer() -> None:
        nonlocal found
        made = extractor.kept_features(np.stack([picture for _, picture in batch]))
        if not found.rows.shape[1]:  # only the loaded backbone knew how wide its features are
            found = Features(np.zeros((len(catalogue), made.shape[1]), np.float16), found.there, found.reasons)
        numbers = [i for i, _ in batch]
        found.rows[numbers], found.there[numbers] = made, True
        if keeper is not None:
            keeper.keep([(str(catalogue.keys[i]), catalogue.images[i]) for i in numbers], made)
        batch.clear()

    show(done)
    for i, picture in pixels(field, extractor.spec, catalogue, left):
        done += 1
        if isinstance(picture, str):
            found.reasons[picture] += 1
        else:
            batch.append((i, change(picture, i)))
        if len(batch) >= AT_ONCE:
            infer()
            show(done)
    if batch:
        infer()
    show(done)
    return found


def _kept(
    field: EmbeddingField, catalogue: Catalogue, rows: Sequence[int], features_key: str
) -> dict[int, NDArray[np.float16]]:
    found: dict[int, Any] = {}
    for start in range(0, len(rows), PAGE):
        page = rows[start : start + PAGE]
        wanted = {str(catalogue.keys[i]): i for i in page}
        pictures = [(key, catalogue.images[i]) for key, i in wanted.items()]
        found |= {wanted[key]: row for key, row in feature_cache.read(field, features_key, pictures).items()}
    return found
