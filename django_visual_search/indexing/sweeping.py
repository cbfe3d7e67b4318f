"""Find all stale vectors and embed them; signals are only the fast path.

Entry function: ``sweep``. Once every vector has moved, a sweep also ends a switch of vector spaces. At times it deletes
unneeded rows: attempts at deleted pictures, and features that no head uses.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Cast, Now
from django.utils import timezone

from ..db.rows import change_free
from ..db.statements import cache_key
from ..extractors import ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..extractors.classic import ClassicExtractor
from ..fields import EmbeddingField
from ..models import EmbeddingHead, IndexingAttempt, IndexingRun, ServingSpace
from ..spaces import features
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space
from ..spaces.live import Space, forget_live_spaces
from .ann import rebuild_lost
from .claims import quarantine_lost
from .pipeline import embed
from .runs import Outcome, Run
from .stale import claimed, pending, pending_keys, stale

logger = logging.getLogger("django_visual_search")


def sweep(field: EmbeddingField, *, seconds: float | None = None) -> Outcome:
    """Quarantine pictures that killed their workers, drop unneeded attempts, and embed pending pictures.

    Builds the ANN index again that a killed ``reindex_embeddings`` left dropped, and stops embedding after the batch in
    which ``seconds`` have passed. Safe to run at the same time in several processes: claims share the work.
    """
    outcome = Outcome()
    if _ended_attempts(field).exists():  # mostly not, and both take several times as long to ask
        outcome.quarantined = quarantine_lost(field)
        drop_needless_attempts(field)
    run = Run(field, IndexingRun.Kind.SWEEP)
    with contextlib.closing(embed(field, _keys_for(field, seconds))) as steps:
        for step in steps:
            outcome.add(step)
            run.show(outcome)
    run.finish(outcome)
    end_switch(field)
    prune_features(field)
    for name in rebuild_lost(field):
        logger.warning("visual search: %s: built index %s, which a killed reindex had left dropped", field.label, name)
    return outcome


def _keys_for(field: EmbeddingField, seconds: float | None) -> Iterator[Any]:
    until = None if seconds is None else time.monotonic() + seconds
    for key in pending_keys(field):
        if until is not None and time.monotonic() > until:
            return
        yield key


def drop_needless_attempts(field: EmbeddingField) -> None:
    """Delete attempts whose row is gone, has no picture any more, or has its vector."""
    pk = field.target_model._meta.pk
    while pk.remote_field:  # to a parent's row
        pk = pk.target_field
    ended = _ended_attempts(field).annotate(row=Cast("object_id", pk))
    change_free(ended.filter(~Exists(stale(field).filter(pk=OuterRef("row")))), lambda found: found.delete())


def _ended_attempts(field: EmbeddingField) -> QuerySet[IndexingAttempt]:
    """Return attempts that nobody is busy with."""
    attempts = IndexingAttempt.objects.using(router.db_for_write(field.model))
    return attempts.filter(label=field.label, leased_until__lte=timezone.now())


def end_switch(field: EmbeddingField) -> bool:
    """End a switch if no vector is left to move. Return whether it did.

    Pictures that can't be embedded (refused, quarantined) don't hold it up: their vectors are not searched any more.
    """
    using = router.db_for_write(field.model)
    unfinished = ServingSpace.objects.using(using).filter(label=field.label, finished_at=None)
    if not unfinished.filter(effective_at__lte=Now()).exists():
        return False
    if pending(field).exists() or claimed(field).exists():
        return False
    with transaction.atomic(using=using):
        row = unfinished.select_for_update().filter(effective_at__lte=Now()).first()
        if row is None:
            return False
        row.finished_at = timezone.now()
        row.save(update_fields=["finished_at"])
        heads = EmbeddingHead.objects.using(using)
        if row.previous_head_id and row.previous_head_id != row.head_id:
            heads.filter(pk=row.previous_head_id).update(state=EmbeddingHead.State.RETIRED)
    forget_live_spaces()
    return True


COPIES = 10
"""Most altered copies of a picture whose features are kept; their key is the backbone's with a number."""

_pruned: dict[tuple[str, ...], float] = {}


def prune_features(field: EmbeddingField, *, every_seconds: float = 3600.0) -> int:
    """Drop features that no head uses, at most once in ``every_seconds`` and process. Return how many.

    Keeps those of the settings' extractor, of the serving space and the one before, and of every head that is not
    retired.
    """
    place = (*cache_key(connections[router.db_for_write(field.model)]), field.label)
    if time.monotonic() - _pruned.get(place, -every_seconds) < every_seconds:
        return 0
    _pruned[place] = time.monotonic()
    keys = set(_keys_of_heads(field)) | set(_keys_of_extractors(field))
    return features.prune(field, [*keys, *(f"{key}+{number}" for key in keys for number in range(COPIES))])


def _keys_of_heads(field: EmbeddingField) -> list[str]:
    using = router.db_for_write(field.model)
    heads = EmbeddingHead.objects.using(using).filter(label=field.label)
    spaces = ServingSpace.objects.using(using).filter(label=field.label)
    serving = spaces.values_list("head__features_key", "previous_head__features_key")
    live = heads.exclude(state=EmbeddingHead.State.RETIRED).values_list("features_key", flat=True)
    return [*live, *(key for row in serving for key in row if key)]


def _keys_of_extractors(field: EmbeddingField) -> list[str]:
    spaces = ServingSpace.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    aliases = {alias for row in spaces.values_list("extractor", "previous_extractor") for alias in row}
    extractors = [extractor_of(field)]
    for alias in aliases:
        try:
            extractors.append(extractor_of_space(field, Space(alias)))
        except (ImproperlyConfigured, ExtractorUnavailable):  # no longer in the settings
            continue
    backbones = [extractor for extractor in extractors if isinstance(extractor, BackboneExtractor)]
    # Training groups pictures into scenes by these.
    beside = [ClassicExtractor(images=asdict(backbone.image_options)) for backbone in backbones]
    return [backbone.features_key for backbone in (*backbones, *beside)]
