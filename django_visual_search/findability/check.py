"""The dear part: products whose own photo, altered a little, doesn't find them, and pictures of two products."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from django.utils import timezone

from ..conf import conf
from ..evaluation.gallery import Gallery, load_gallery
from ..evaluation.pictures import Unreadable
from ..fields import EmbeddingField
from ..indexing.report import Report
from ..indexing.runs import Run
from ..models import FindabilityFinding, IndexingRun
from ..spaces.heads import wanted_extractor
from .drowned import drowned
from .duplicates import duplicate, threshold
from .findings import store

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
