"""What a check found, as rows.

Products that look-alikes hide: their own photo, altered a little, doesn't find them.

Pictures of two products that are the same: as near as a picture is to a smaller, compressed copy of itself.

The dear part: products whose own photo, altered a little, doesn't find them, and pictures of two products.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from django.db import router, transaction
from django.utils import timezone
from PIL import Image

from ..conf import conf
from ..evaluation.gallery import Gallery, load_gallery
from ..evaluation.pictures import Unreadable, as_photo, pictures, prepared, saved
from ..evaluation.space import unit
from ..extractors import Extractor, ExtractorSpec
from ..fields import EmbeddingField
from ..indexing.runs import Report, Run
from ..learning.augment import altered
from ..models import FindabilityFinding, IndexingRun
from ..search.nearest import Query, nearest
from ..spaces.heads import wanted_extractor

REPLACED_TOGETHER = 500


def finding(field: EmbeddingField, gallery: Gallery, row: int, reason: Any, other: str) -> FindabilityFinding:
    """Of a picture by its row in the gallery; ``other``: the product in its place. Not saved."""
    catalogue = gallery.catalogue
    return FindabilityFinding(
        label=field.label,
        object_id=str(catalogue.keys[row]),
        product_id=catalogue.products[row],
        image=catalogue.images[row],
        reason=reason,
        other_id=other,
        extractor_key=gallery.space,
        checked_at=timezone.now(),
    )


def store(field: EmbeddingField, gallery: Gallery, products: list[str], found: list[FindabilityFinding]) -> None:
    """In place of what was known of these products, of other vector spaces, and of products that are gone."""
    using = router.db_for_write(field.model)
    rows = FindabilityFinding.objects.using(using).filter(label=field.label)
    with transaction.atomic(using=using):
        rows.exclude(extractor_key=gallery.space).delete()
        if gallery.complete:
            there = set(gallery.catalogue.products)
            gone = [key for key in rows.values_list("product_id", flat=True).distinct() if key not in there]
            rows.filter(product_id__in=gone).delete()
        for start in range(0, len(products), REPLACED_TOGETHER):
            rows.filter(product_id__in=products[start : start + REPLACED_TOGETHER]).delete()
        FindabilityFinding.objects.using(using).bulk_create(
            found,
            batch_size=REPLACED_TOGETHER,
            update_conflicts=True,  # another check of the same products may have ended meanwhile
            unique_fields=["label", "object_id", "reason"],
            update_fields=[
                *("product_id", "image", "other_id", "similarity", "failed", "photos", "extractor_key", "checked_at")
            ],
        )


TOP = 5
"""Hits among which a photo has to find its product."""

ALTERATIONS = {"crop": 0.3, "light": 0.2, "rotation": 0.1}
"""Of each photo: up to an eighth of each side cut off, a fifth more or less light, turned by up to 9 degrees."""

PHOTOS = 3
FAILED = 2
"""So many of these photos must miss their product for it to count as drowned: one may be an unlucky one."""


def drowned(
    field: EmbeddingField,
    extractor: Extractor,
    gallery: Gallery,
    rows: list[int],
    unreadable: Unreadable,
) -> Iterator[tuple[int, FindabilityFinding | None]]:
    """Each of the rows in turn, with a finding where too many altered photos of it miss its product."""
    names = [gallery.catalogue.images[row] for row in rows]
    everything = field.product_model._base_manager.all()
    next_place = 0
    for place, picture in pictures(field, names, extractor.spec, unreadable):
        for missed in rows[next_place:place]:
            yield missed, None
        next_place = place + 1
        row = rows[place]
        product = gallery.catalogue.products[row]
        photos = np.stack([prepared(photo, extractor.spec) for photo in _photos(picture, extractor.spec, place)])
        others: Counter[str] = Counter()
        failed = 0
        for vector in unit(extractor(photos)):
            near = nearest(field, Query(vector, gallery.space), limit=TOP, within=everything).candidates
            keys = [str(candidate.product_pk) for candidate in near]
            if product not in keys:
                failed += 1
                others.update(keys[:1])
        found = None
        if failed >= FAILED:
            reason = FindabilityFinding.Reason.DROWNED
            found = finding(field, gallery, row, reason, others.most_common(1)[0][0] if others else "")
            found.failed, found.photos = failed, len(photos)
        yield row, found
    for missed in rows[next_place:]:
        yield missed, None


def _photos(picture: Image.Image, spec: ExtractorSpec, seed: int) -> Iterator[bytes]:
    for number in range(PHOTOS):
        photo = picture
        for name, strength in ALTERATIONS.items():
            photo = altered(photo, name, strength, [seed, number])
        yield as_photo(photo, spec)


COPIES = 60
"""Pictures that are copied to measure with."""
FEWEST = 5
"""Copies below which a quantile says nothing."""

SCALE, QUALITY = 0.9, 85
"""Of a copy: a little smaller and saved again, as programs do that put pictures online."""

QUANTILE = 0.05
"""Of copies that may be taken for other pictures. What that leaves apart was measured; see ``threshold``."""

OTHERWISE = 0.995
"""Where there are too few pictures to measure with."""


def threshold(field: EmbeddingField, extractor: Extractor, gallery: Gallery, rows: list[int], seed: int = 0) -> float:
    """The cosine that all but QUANTILE of small, compressed copies have to their pictures, in this vector space.

    Measured anew for each space, because how near look-alikes are differs. What it leaves apart, by 300 copies (their
    5 % quantile) and the nearest pictures of other products (the nearest pair of all), 1,200 grocery photos and the 336
    products of the example shop: classic .9996 and .9824, .9992 and .9919; MobileNetV2 .9935 and .9306, .9978 and
    .9900; MobileNetV2 with a head learned from the grocery's products .9905 and .9091. Copies of half the size can't be
    told from look-alikes like that (MobileNetV2: .8797 and .9306).
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:COPIES]
    some = [rows[i] for i in sorted(drawn)]
    cosines = []
    for place, picture in pictures(field, [gallery.catalogue.images[row] for row in some], extractor.spec):
        small = (max(1, round(picture.width * SCALE)), max(1, round(picture.height * SCALE)))
        copy = _copy(picture.resize(small, Image.Resampling.LANCZOS))
        vector = unit(extractor(prepared(as_photo(copy, extractor.spec), extractor.spec)[None]))[0]
        cosines.append(float(vector @ gallery.vectors[some[place]]))
    return float(np.quantile(cosines, QUANTILE)) if len(cosines) >= FEWEST else OTHERWISE


def _copy(picture: Image.Image) -> Image.Image:
    with Image.open(BytesIO(saved(picture, "JPEG", QUALITY))) as copy:
        return copy.convert("RGB")


def duplicate(field: EmbeddingField, gallery: Gallery, row: int, same: float) -> FindabilityFinding | None:
    """A finding where the nearest picture of another product is the same as this one."""
    product = field.product_model._meta.pk.to_python(gallery.catalogue.products[row])
    everything = field.product_model._base_manager.all()
    query = Query(gallery.vectors[row], gallery.space)
    near = nearest(field, query, limit=1, within=everything, exclude=product).candidates
    if not near or (cosine := cosine_of(field, near[0].distance)) < same:
        return None
    reason = FindabilityFinding.Reason.DUPLICATE
    found = finding(field, gallery, row, reason, str(near[0].product_pk))
    found.similarity = cosine
    return found


def cosine_of(field: EmbeddingField, distance: float) -> float:
    """Of two unit vectors with that distance by the field's metric."""
    if field.metric == "l2":
        return 1 - distance**2 / 2
    return 1 - distance if field.metric == "cosine" else -distance


LIMIT = 2000
"""Products of one check: some minutes. What earlier checks found of others stays."""

PICTURES_EACH = 10
"""Pictures of one product that are compared with other products'."""


@dataclass(frozen=True)
class Checked:
    """What a check looked at and found."""

    products: int
    of: int
    """Products that have a vector."""
    drowned: int
    duplicates: int
    threshold: float
    """Cosine above which two pictures count as the same, as measured for this space."""
    unreadable: int


def check(
    field: EmbeddingField,
    *,
    limit: int | None = LIMIT,
    seed: int | None = None,
    show: Callable[[int, int], None] | None = None,
) -> Checked:
    """Look for products of the field that are drowned or have another's picture, and store what is found.

    ``limit``: products to look at, drawn at random; None for all. ``seed``: the same draws the same; None draws others
    each time. ``show`` is told how many products are through, and of how many. Raises ExtractorUnavailable where the
    extractor can't run.
    """
    extractor = wanted_extractor(field)
    gallery = load_gallery(field, extractor.spec.key)
    rows = _first_rows(gallery)
    chosen = np.random.default_rng(seed).permutation(len(rows))[: limit or None]
    chosen_rows = [rows[i] for i in sorted(chosen)]
    run = Run(field, IndexingRun.Kind.FINDABILITY, len(chosen_rows))
    run.write(Report())
    if show is not None:
        show(0, len(chosen_rows))
    same = threshold(field, extractor, gallery, chosen_rows, seed or 0)
    unreadable, found, report = Unreadable(), [], Report()
    by_product = _rows_by_product(gallery)
    for count, (row, finding) in enumerate(drowned(field, extractor, gallery, chosen_rows, unreadable), 1):
        of_product = by_product[gallery.catalogue.products[row]][:PICTURES_EACH]
        new = [] if finding is None else [finding]
        new += [twin for one in of_product if (twin := duplicate(field, gallery, one, same))]
        found += new
        report.done += 1
        run.show(report)
        if show is not None:
            show(count, len(chosen_rows))
    store(field, gallery, [gallery.catalogue.products[row] for row in chosen_rows], found)
    run.finish(report)
    counted = Counter(finding.reason for finding in found)
    return Checked(
        len(chosen_rows),
        len(rows),
        counted[FindabilityFinding.Reason.DROWNED],
        counted[FindabilityFinding.Reason.DUPLICATE],
        same,
        len(unreadable.reasons),
    )


def running(label: str) -> bool:
    """Whether a check of that field goes on, as far as can be told."""
    recent = timezone.now() - datetime.timedelta(seconds=2 * conf.LEASE_SECONDS)
    runs = IndexingRun.objects.filter(label=label, kind=IndexingRun.Kind.FINDABILITY, finished_at=None)
    return runs.filter(updated_at__gt=recent).exists()


def _first_rows(gallery: Gallery) -> list[int]:
    """The first picture of each product."""
    first: dict[str, int] = {}
    for row, product in enumerate(gallery.catalogue.products):
        first.setdefault(product, row)
    return list(first.values())


def _rows_by_product(gallery: Gallery) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, product in enumerate(gallery.catalogue.products):
        found.setdefault(product, []).append(row)
    return found
