"""Find the vectors that don't match their pictures, by one comparison in SQL that is true at any time.

Entry function: ``stale``. A row is *stale* if its vector is missing, was made from another picture or by another
extractor, or is left over from a picture that was removed; ``pending`` if it may be worked on now. ``mark_stale`` makes
current vectors stale, for pictures replaced under the same name and for ``--force``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.db import models, router
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from ..conf import conf
from ..db.rows import all_rows, change_all, key_text
from ..fields import EmbeddingField
from ..fields.keys import marked, picture_name
from ..models import IndexingAttempt
from ..spaces import features
from ..spaces.heads import serving_embedding_key

logger = logging.getLogger("django_visual_search")

PAGE = 1000


def targets(field: EmbeddingField) -> QuerySet[Any]:
    """Return all rows that may have a picture for this field, of its own model or of the one that a companion links to.

    Annotated with ``_visual_image`` (the picture's name and area, never NULL) and ``_visual_wanted`` (the key that its
    vector should have).
    """
    rows = all_rows(field.target_model, router.db_for_write(field.model)).annotate(_visual_image=picture_name(field))
    wanted = Concat(Value(serving_embedding_key(field, "")), F("_visual_image"), output_field=models.TextField())
    return rows.annotate(_visual_wanted=wanted)


def stale(field: EmbeddingField) -> QuerySet[Any]:
    """Return the ``targets`` whose vector is missing, made from another picture, or left over from a removed one."""
    rows = targets(field)
    has_vector = _has_vector(field)
    if field.link is None:
        current = has_vector & Q(**{field.key_name: F("_visual_wanted")})
    else:
        current = Q(Exists(field.companions().filter(**{field.key_name: OuterRef("_visual_wanted")})))
    return rows.filter((~Q(_visual_image="") & ~current) | (Q(_visual_image="") & has_vector))


def outdated(field: EmbeddingField) -> QuerySet[Any]:
    """Return the stale rows with a vector of another picture or of another space."""
    return stale(field).filter(_has_vector(field))


def _has_vector(field: EmbeddingField) -> Q:
    has_key = Q(**{f"{field.key_name}__isnull": False})
    return has_key if field.link is None else Q(Exists(field.companions().filter(has_key)))


SETTLED = Q(state__in=[IndexingAttempt.State.REFUSED, IndexingAttempt.State.QUARANTINED])


def pending(field: EmbeddingField) -> QuerySet[Any]:
    """Return the stale rows that may be worked on now: not refused, not quarantined, not claimed by another process."""
    return without_attempt(field, SETTLED | Q(leased_until__gt=timezone.now()) | Q(attempts__gte=conf.MAX_ATTEMPTS))


def claimed(field: EmbeddingField) -> QuerySet[Any]:
    """Return the stale rows that a process works on now, or did when it was lost less than ``LEASE_SECONDS`` ago."""
    running = Q(state=IndexingAttempt.State.RUNNING, leased_until__gt=timezone.now())
    return stale(field).filter(Exists(attempts_at(field).filter(running)))


def without_attempt(field: EmbeddingField, condition: Q) -> QuerySet[Any]:
    """Return the stale rows whose wanted vector has no attempt that meets the condition."""
    return stale(field).filter(~Exists(attempts_at(field).filter(condition)))


def attempts_at(field: EmbeddingField) -> QuerySet[IndexingAttempt]:
    """Return, for a subquery of ``targets``, the attempt at the vector that the outer row should have now."""
    return IndexingAttempt.objects.filter(
        label=field.label, object_id=Cast(OuterRef("pk"), models.TextField()), key=OuterRef("_visual_wanted")
    )


def pending_keys(field: EmbeddingField, *, page: int = PAGE) -> Iterator[Any]:
    """Yield primary keys of pending rows in their order, page by page; rows done in the meantime are skipped."""
    after = Q()
    while True:
        keys = list(pending(field).filter(after).order_by("pk").values_list("pk", flat=True)[:page])
        yield from keys
        if len(keys) < page:
            return
        after = Q(pk__gt=keys[-1])


def batched(keys: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Yield tuples of ``size`` keys, the last one shorter; ``itertools.batched`` comes with Python 3.12."""
    iterator = iter(keys)
    while batch := tuple(islice(iterator, size)):
        yield batch


def mark_stale(field: EmbeddingField, rows: Iterable[Any] | None = None) -> None:
    """Make current vectors stale, and give refused or quarantined pictures new attempts. Vectors stay searchable.

    ``rows``: primary keys of the rows that have the pictures; None means all. A worker that is busy with one of them
    will not write its vector.
    """
    using = router.db_for_write(field.model)
    attempts = IndexingAttempt.objects.using(using).filter(label=field.label)
    owners = all_rows(field.model, using).filter(**{f"{field.key_name}__isnull": False})
    if rows is not None:
        keys = list(rows)
        attempts = attempts.filter(object_id__in=[key_text(field.target_model, key, using) for key in keys])
        # A companion is found by its link's column, whatever that refers to.
        owners = owners.filter(**{f"{field.link.name}__pk__in" if field.link else "pk__in": keys})
    change_all(attempts, lambda found: found.delete())
    change_all(owners, lambda found: found.update(**{field.key_name: marked(field.key_name)}))
    features.forget_features(field, None if rows is None else keys)


def mark_overwritten(field: EmbeddingField, name: str, rows: Iterable[Any]) -> list[Any]:
    """Make stale the vectors that other rows made from this name before it was stored for ``rows``; return their keys.

    None where the storage gives each file a name of its own, as Django's do. Amazon's overwrites by default, so that a
    product that is given a file of the same name as another's changes both.
    """
    try:
        if field.image_field.storage.get_available_name(name) != name:
            return []
    except Exception as e:  # of a storage's own kind
        logger.warning("visual search: %s: the storage can't say whether it overwrites %s: %s", field.label, name, e)
        return []
    others = all_rows(field.target_model, router.db_for_write(field.model)).filter(**{field.image_path: name})
    keys = list(others.exclude(pk__in=list(rows)).values_list("pk", flat=True))
    if keys:
        mark_stale(field, keys)
    return keys
