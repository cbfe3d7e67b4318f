"""What a check found, as rows."""

from __future__ import annotations

from typing import Any

from django.db import router, transaction
from django.utils import timezone

from ..evaluation.gallery import Gallery
from ..fields import EmbeddingField
from ..models import FindabilityFinding

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
