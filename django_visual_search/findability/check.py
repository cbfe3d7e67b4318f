"""The findability check: drowned products and duplicate pictures, which only searches can find.

``check`` takes some minutes and stores its findings. A product is *drowned* where look-alikes come before it in
searches for its own picture, slightly altered. A picture is a *duplicate* where another product's is as near to it as a
smaller, compressed copy of itself would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from django.db import router, transaction
from django.utils import timezone
from PIL import Image

from ..db.rows import all_rows
from ..evaluation.gallery import Gallery, load_gallery
from ..evaluation.pictures import Unreadable, as_photo, encoded, large_pictures, prepare_photo
from ..evaluation.space import unit
from ..extractors import Extractor, ExtractorSpec
from ..fields import EmbeddingField
from ..indexing.runs import Outcome, Run
from ..learning.augment import alter
from ..models import FindabilityFinding, IndexingRun
from ..search.nearest import nearest
from ..search.query import Query
from ..spaces.heads import serving_extractor

CHECK_LIMIT = 2000
"""Products of one check, which takes some minutes. Earlier findings about other products stay."""

PICTURES_EACH = 10
"""Pictures of one product that are compared with other products' pictures."""


@dataclass(frozen=True)
class CheckResult:
    """Numbers of products that a check looked at, and of its findings."""

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
    limit: int | None = CHECK_LIMIT,
    seed: int | None = None,
    show: Callable[[int, int], None] | None = None,
) -> CheckResult:
    """Look for the field's drowned products and duplicate pictures, and store the findings.

    ``limit``: products to look at, drawn at random; None for all. ``seed``: the same draws the same; None draws others
    each time. ``show`` gets the number of products processed, and of all. Raise ExtractorUnavailable where the
    extractor can't run.
    """
    extractor = serving_extractor(field)
    gallery = load_gallery(field, extractor.spec.key)
    by_product = _rows_by_product(gallery)
    first_rows = [rows[0] for rows in by_product.values()]
    drawn = np.random.default_rng(seed).permutation(len(first_rows))[: limit or None]
    chosen = [first_rows[i] for i in sorted(drawn)]
    run, outcome = Run(field, IndexingRun.Kind.FINDABILITY, len(chosen)), Outcome()
    run.write(outcome)
    if show is not None:
        show(0, len(chosen))
    threshold = duplicate_threshold(field, extractor, gallery, chosen, seed or 0)
    unreadable, products, findings = Unreadable(), [], []
    drowned = find_drowned(field, extractor, gallery, chosen, unreadable)
    for processed, (row, finding) in enumerate(drowned, 1):
        product = gallery.catalogue.products[row]
        products.append(product)
        duplicates = (find_duplicate(field, gallery, one, threshold) for one in by_product[product][:PICTURES_EACH])
        findings += [one for one in (finding, *duplicates) if one is not None]
        outcome.refused = len(unreadable.reasons)
        outcome.done = max(0, processed - outcome.refused)
        run.show(outcome)
        if show is not None:
            show(processed, len(chosen))
    replace_findings(field, gallery, products, findings)
    run.finish(outcome)
    reasons = Counter(finding.reason for finding in findings)
    return CheckResult(
        len(chosen),
        len(first_rows),
        reasons[FindabilityFinding.Reason.DROWNED],
        reasons[FindabilityFinding.Reason.DUPLICATE],
        threshold,
        len(unreadable.reasons),
    )


def running(label: str) -> bool:
    """Return whether a check of that field is running."""
    runs = IndexingRun.objects.filter(label=label, kind=IndexingRun.Kind.FINDABILITY)
    return any(run.is_running for run in runs)


def _rows_by_product(gallery: Gallery) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, product in enumerate(gallery.catalogue.products):
        rows.setdefault(product, []).append(row)
    return rows


# Drowned products

TOP = 5
"""A photo must find its product among this many hits."""

ALTERATIONS = {"crop": 0.3, "light": 0.2, "rotation": 0.1}
"""Each photo: up to an eighth of each side cut off, up to a fifth more or less light, turned by up to 9 degrees."""

PHOTOS = 3
FAILED = 2
"""This many of the PHOTOS must miss their product for it to count as drowned: one may be an accident."""


def find_drowned(
    field: EmbeddingField,
    extractor: Extractor,
    gallery: Gallery,
    rows: list[int],
    unreadable: Unreadable,
) -> Iterator[tuple[int, FindabilityFinding | None]]:
    """Yield each of the rows in turn, with a finding where FAILED altered photos of it miss its product."""
    names = [gallery.catalogue.images[row] for row in rows]
    next_place = 0
    for place, picture in large_pictures(field, names, extractor.spec, unreadable):
        yield from ((row, None) for row in rows[next_place:place])  # unreadable
        photos = np.stack([prepare_photo(photo, extractor.spec) for photo in _photos(picture, extractor.spec, place)])
        yield rows[place], _search_by(field, gallery, rows[place], unit(extractor(photos)))
        next_place = place + 1
    yield from ((row, None) for row in rows[next_place:])


def _search_by(field: EmbeddingField, gallery: Gallery, row: int, vectors: Any) -> FindabilityFinding | None:
    """Return a finding where searches by FAILED of these vectors, of altered photos of the row, miss its product."""
    product = gallery.catalogue.products[row]
    everything = all_rows(field.product_model)
    failed, others = 0, Counter[str]()
    for vector in vectors:
        near = nearest(field, [Query(vector, gallery.space)], limit=TOP, within=everything).candidates
        keys = [str(candidate.product_pk) for candidate in near]
        if product not in keys:
            failed += 1
            others.update(keys[:1])
    if failed < FAILED:
        return None
    other = others.most_common(1)[0][0] if others else ""
    finding = make_finding(field, gallery, row, FindabilityFinding.Reason.DROWNED, other)
    finding.failed, finding.photos = failed, len(vectors)
    return finding


def _photos(picture: Image.Image, spec: ExtractorSpec, seed: int) -> Iterator[bytes]:
    for number in range(PHOTOS):
        photo = picture
        for name, strength in ALTERATIONS.items():
            photo = alter(photo, name, strength, [seed, number])
        yield as_photo(photo, spec)


# Duplicate pictures

MEASURED_COPIES = 60
"""Pictures that are copied to measure the threshold."""
FEWEST_COPIES = 5
"""Fewest copies for a quantile."""

SCALE, QUALITY = 0.9, 85
"""A copy is a little smaller and saved again, as by programs that put pictures online."""

QUANTILE = 0.05
"""Share of copies that may count as other pictures. Measured; see ``duplicate_threshold``."""

DEFAULT_THRESHOLD = 0.995
"""With too few pictures to measure."""


def duplicate_threshold(
    field: EmbeddingField, extractor: Extractor, gallery: Gallery, rows: list[int], seed: int = 0
) -> float:
    """Return the cosine that all but QUANTILE of small, compressed copies have to their pictures, in this vector space.

    Measured for each space, because look-alikes are nearer in some. The 5 % quantile of 300 copies, and the nearest
    pair of different products' pictures, of 1,200 grocery photos and of the 336 products of the example shop: classic
    .9996 and .9824, .9992 and .9919; MobileNetV2 .9935 and .9306, .9978 and .9900; MobileNetV2 with a head learned from
    the grocery's products .9905 and .9091. Copies of half the size can't be distinguished from look-alikes this way
    (MobileNetV2: .8797 and .9306).
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:MEASURED_COPIES]
    some = [rows[i] for i in sorted(drawn)]
    cosines = []
    for place, picture in large_pictures(field, [gallery.catalogue.images[row] for row in some], extractor.spec):
        small = (max(1, round(picture.width * SCALE)), max(1, round(picture.height * SCALE)))
        copy = _copy(picture.resize(small, Image.Resampling.LANCZOS))
        vector = unit(extractor(prepare_photo(as_photo(copy, extractor.spec), extractor.spec)[None]))[0]
        cosines.append(float(vector @ gallery.vectors[some[place]]))
    return float(np.quantile(cosines, QUANTILE)) if len(cosines) >= FEWEST_COPIES else DEFAULT_THRESHOLD


def _copy(picture: Image.Image) -> Image.Image:
    with Image.open(BytesIO(encoded(picture, "JPEG", QUALITY))) as copy:
        return copy.convert("RGB")


def find_duplicate(field: EmbeddingField, gallery: Gallery, row: int, same: float) -> FindabilityFinding | None:
    """Return a finding where another product's nearest picture has at least the cosine ``same``."""
    product = field.product_model._meta.pk.to_python(gallery.catalogue.products[row])
    everything = all_rows(field.product_model)
    query = Query(gallery.vectors[row], gallery.space)
    near = nearest(field, [query], limit=1, within=everything, exclude=product).candidates
    if not near or (cosine := cosine_of(field, near[0].distance)) < same:
        return None
    reason = FindabilityFinding.Reason.DUPLICATE
    found = make_finding(field, gallery, row, reason, str(near[0].product_pk))
    found.similarity = cosine
    return found


def cosine_of(field: EmbeddingField, distance: float) -> float:
    """Return the cosine of two unit vectors with that distance by the field's metric."""
    if field.metric == "l2":
        return 1 - distance**2 / 2
    return 1 - distance if field.metric == "cosine" else -distance


# Findings

REPLACED_TOGETHER = 500


def make_finding(field: EmbeddingField, gallery: Gallery, row: int, reason: Any, other: str) -> FindabilityFinding:
    """Return an unsaved finding about a picture by its row in the gallery. ``other``: the product in its place."""
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


def replace_findings(
    field: EmbeddingField, gallery: Gallery, products: list[str], found: list[FindabilityFinding]
) -> None:
    """Store findings in place of those about these products, about other vector spaces and about deleted products."""
    using = router.db_for_write(field.model)
    rows = FindabilityFinding.objects.using(using).filter(label=field.label)
    with transaction.atomic(using=using):
        rows.exclude(extractor_key=gallery.space).delete()
        if gallery.complete:
            existing = set(gallery.catalogue.products)
            gone = [key for key in rows.values_list("product_id", flat=True).distinct() if key not in existing]
            rows.filter(product_id__in=gone).delete()
        for start in range(0, len(products), REPLACED_TOGETHER):
            rows.filter(product_id__in=products[start : start + REPLACED_TOGETHER]).delete()
        FindabilityFinding.objects.using(using).bulk_create(
            found,
            batch_size=REPLACED_TOGETHER,
            update_conflicts=True,  # another check of the same products may have finished meanwhile
            unique_fields=["label", "object_id", "reason"],
            update_fields=[
                *("product_id", "image", "other_id", "similarity", "failed", "photos", "extractor_key", "checked_at")
            ],
        )
