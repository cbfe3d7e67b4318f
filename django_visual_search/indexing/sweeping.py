"""Ends a switch of vector spaces once every vector has moved.

Lets kept features go that no head will ask for.

Finds everything that is stale and embeds it: the truth behind the signals' fast path.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models.functions import Now
from django.utils import timezone

from ..conf import conf
from ..extractors import ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..extractors.classic import ClassicExtractor
from ..fields import EmbeddingField
from ..models import EmbeddingHead, IndexingAttempt, IndexingRun, ServingSpace
from ..spaces import features
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space
from ..spaces.serving import Space, forget
from .ann import rebuild_lost
from .claims import batched, quarantine_lost
from .pipeline import embed
from .runs import Report, Run
from .stale import claimed, pending, stale


def settle(field: EmbeddingField) -> bool:
    """Let the old space go if there is nothing left to be moved out of it. Returns whether a switch ended by that.

    Pictures that can't be embedded (refused, quarantined) don't hold it up: their vectors are not searched any more.
    """
    using = router.db_for_write(field.model)
    open_ones = ServingSpace.objects.using(using).filter(label=field.label, finished_at=None)
    if not open_ones.filter(effective_at__lte=Now()).exists():
        return False
    if pending(field).exists() or claimed(field).exists():
        return False
    with transaction.atomic(using=using):
        row = open_ones.select_for_update().filter(effective_at__lte=Now()).first()
        if row is None:
            return False
        row.finished_at = timezone.now()
        row.save(update_fields=["finished_at"])
        heads = EmbeddingHead.objects.using(using)
        if row.previous_head_id and row.previous_head_id != row.head_id:
            heads.filter(pk=row.previous_head_id).update(state=EmbeddingHead.State.RETIRED)
    forget()
    return True


VIEWS = 10
"""Altered views of a picture whose features are kept, at most; their key is the backbone's with a number."""

_pruned: dict[str, float] = {}


def prune(field: EmbeddingField, *, every_seconds: float = 3600.0) -> int:
    """Drop features that no head will ask for, at most once in ``every_seconds`` and process. Return how many went.

    Kept are those of the settings' extractor, of what serves and served before, and of every head that was not retired.
    """
    if time.monotonic() - _pruned.get(field.label, -every_seconds) < every_seconds:
        return 0
    _pruned[field.label] = time.monotonic()
    keys = set(_of_heads(field)) | set(_of_extractors(field))
    return features.prune(field, [*keys, *(f"{key}+{number}" for key in keys for number in range(VIEWS))])


def _of_heads(field: EmbeddingField) -> list[str]:
    using = router.db_for_write(field.model)
    heads = EmbeddingHead.objects.using(using).filter(label=field.label)
    spaces = ServingSpace.objects.using(using).filter(label=field.label)
    serving = spaces.values_list("head__features_key", "previous_head__features_key")
    wanted = heads.exclude(state=EmbeddingHead.State.RETIRED).values_list("features_key", flat=True)
    return [*wanted, *(key for row in serving for key in row if key)]


def _of_extractors(field: EmbeddingField) -> list[str]:
    spaces = ServingSpace.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    aliases = {alias for row in spaces.values_list("extractor", "previous_extractor") for alias in row}
    extractors = [extractor_of(field)]
    for alias in aliases:
        try:
            extractors.append(extractor_of_space(field, Space(alias)))
        except (ImproperlyConfigured, ExtractorUnavailable):  # no longer in the settings
            continue
    backbones = [extractor for extractor in extractors if isinstance(extractor, BackboneExtractor)]
    # Training tells scenes apart by these.
    beside = [ClassicExtractor(images=asdict(backbone.image_options)) for backbone in backbones]
    return [backbone.features_key for backbone in (*backbones, *beside)]


logger = logging.getLogger("django_visual_search")


def pending_keys(field: EmbeddingField, *, page: int = 1000) -> Iterator[Any]:
    """Primary keys of pending rows in key order, read page by page, so that what is done meanwhile is not visited."""
    last = None
    while True:
        rows = pending(field).order_by("pk")
        if last is not None:
            rows = rows.filter(pk__gt=last)
        keys = list(rows.values_list("pk", flat=True)[:page])
        yield from keys
        if len(keys) < page:
            return
        last = keys[-1]


def sweep(field: EmbeddingField, *, seconds: float | None = None) -> Report:
    """Quarantine what killed its workers, forget attempts at rows that are gone, and embed what is pending.

    Builds the ANN index again that a killed ``reindex_embeddings`` left dropped, and stops embedding after the batch in
    which ``seconds`` have passed. Safe to run at the same time in several processes: claims share the work.
    """
    report = Report(quarantined=quarantine_lost(field))
    forget_needless(field)
    until = None if seconds is None else time.monotonic() + seconds

    def keys() -> Iterator[Any]:
        for key in pending_keys(field):
            if until is not None and time.monotonic() > until:
                return
            yield key

    run = Run(field, IndexingRun.Kind.SWEEP)
    with contextlib.closing(embed(field, keys())) as steps:
        for step in steps:
            report.add(step)
            run.show(report)
    run.finish(report)
    settle(field)
    prune(field)
    for name in rebuild_lost(field):
        logger.warning("visual search: %s: built index %s, which a killed reindex had left dropped", field.label, name)
    return report


def forget_needless(field: EmbeddingField) -> None:
    """Drop attempts whose row is gone, has no picture any more, or has its vector."""
    ended = IndexingAttempt.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    ended = ended.filter(leased_until__lte=timezone.now())
    to_python = field.target_model._meta.pk.to_python
    ids = list(ended.values_list("object_id", flat=True))
    for page in batched(ids, 1000):
        needed = {str(pk) for pk in stale(field).filter(pk__in=map(to_python, page)).values_list("pk", flat=True)}
        ended.filter(object_id__in=set(page) - needed).delete()


def sweep_seconds() -> float:
    """How long one sweep may go on; the next one comes every ``SWEEP_SECONDS``."""
    return 10.0 * conf.SWEEP_SECONDS
