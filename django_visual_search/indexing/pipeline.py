"""Embeds pictures in batches: while one is inferred, the one before it is written and the next ones are decoded."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import Any

import numpy as np
from django.db.models import Exists
from numpy.typing import NDArray

from ..conf import conf
from ..db.statements import compile_query
from ..fields import EmbeddingField
from ..spaces.heads import wanted_extractor
from . import claims
from .claims import Batch, Claim, Lease, Picture, batched
from .decoding.pool import get_pool
from .embedder import Embedder, decoded, finish
from .runs import Report
from .stale import attempts_at, stale
from .writes import clear

Reports = Generator[Report, None, None]

AHEAD = 2
"""Batches that are being decoded while one is inferred: enough for the decoders while this process talks to the
database."""


def embed(field: EmbeddingField, keys: Iterable[Any], *, batch_size: int | None = None) -> Reports:
    """Embed the rows with these primary keys (of the model that has the picture) that are stale; a report a batch.

    Closed before its end, it gives the claims back of what it has not embedded. Raises ExtractorUnavailable, with the
    claims given back, where the extractor can't run here.
    """
    pipeline = _Pipeline(field)
    try:
        for batch in batched(keys, batch_size or conf.BATCH_SIZE):
            yield pipeline.take(batch)
        while pipeline.decoding or pipeline.inferring:
            yield pipeline.advance(Report())
        pipeline.lease.hold([])
    finally:
        pipeline.close()


class _Pipeline:
    """The batches on their way: claimed and decoding, then at most one that is inferred."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.embedder = Embedder(field, wanted_extractor(field))
        self.lease = Lease(field)
        self.decoding: list[Batch] = []
        self.inferring: list[Batch] = []
        self.spare: list[NDArray[np.uint8]] = []

    def take(self, keys: tuple[Any, ...]) -> Report:
        """Claim what is stale of these rows, and bring what is on its way one step further."""
        report = Report()
        fresh, suspects = self._look_up(keys, report)
        if fresh or suspects:
            self.embedder.load()
        # What an earlier attempt did not finish goes alone: what killed it takes nothing else along.
        for suspect in suspects:
            self._drain(report)
            self._start([suspect], report)
        if suspects:
            self._drain(report)
        self._start(fresh, report)
        return self.advance(report) if len(self.decoding) >= AHEAD else report

    def advance(self, report: Report) -> Report:
        """Begin to infer the batch that has been decoded longest, and write the one before it meanwhile."""
        before = list(self.inferring)
        if self.decoding:
            batch = decoded(self.field, self.decoding[0], self.lease, report)
            whole = self.decoding.pop(0)
            if batch.memory is not whole.memory:
                self.spare.append(whole.memory)
            if batch.claimed:
                batch.vectors = self.embedder.submit(batch)
                self.inferring.append(batch)
        for batch in before:
            finish(self.field, self.embedder, batch, self.lease, report)
            self.inferring.remove(batch)
            self.spare.append(batch.memory)
        return report

    def close(self) -> None:
        """Interrupted, or the extractor or the database is gone: not the pictures' fault, so it doesn't count."""
        for batch in self.decoding:
            for future in batch.decoded:
                future.cancel()
        self.lease.give_back()
        self.embedder.close()

    def _drain(self, report: Report) -> None:
        while self.decoding or self.inferring:
            self.advance(report)

    def _look_up(self, keys: tuple[Any, ...], report: Report) -> tuple[list[Picture], list[Picture]]:
        """Clear what has no picture any more; the stale rest as (never tried, tried before)."""
        rows = stale(self.field).annotate(visual_tried=Exists(attempts_at(self.field).filter(attempts__gt=0)))
        rows = rows.filter(pk__in=keys).values_list("pk", "visual_image", "visual_wanted", "visual_tried")
        report.skipped += len(keys) - len(rows)
        empty = [pk for pk, image, _, _ in rows if not image]
        if empty:
            report.cleared += clear(self.field, empty)
        pictures: tuple[list[Picture], list[Picture]] = [], []
        for pk, image, wanted, tried in rows:
            if image:
                pictures[tried].append(Picture(str(pk), image, wanted))
        return pictures

    def _start(self, pictures: list[Picture], report: Report) -> None:
        """Claim what is still as it was (since the look, it may have been embedded or replaced), and decode it."""
        if not pictures:
            return
        rows = stale(self.field).filter(pk__in=[picture.object_id for picture in pictures])
        again = compile_query(rows.values_list("pk", "visual_wanted"), rows.db)
        claimed, current = claims.claim(self.field, pictures, again, token=self.lease.expect(pictures))
        wanted = {str(pk): key for pk, key in current}
        left: list[Claim] = []
        needless: list[Claim] = []
        for one in claimed:
            (left if wanted.get(one.picture.object_id) == one.picture.key else needless).append(one)
        claims.drop(self.field, needless)
        report.skipped += len(pictures) - len(left)
        kept = self.embedder.kept(left)
        known = [one for one in left if one.picture.object_id in kept]
        if known:
            self.decoding.append(_undecoded(known, kept))
        left = [one for one in left if one.picture.object_id not in kept]
        if left:
            self.decoding.append(self._decode(left))
        self.lease.hold(self._unfinished())

    def _decode(self, claimed: list[Claim]) -> Batch:
        storage, spec, pool = self.field.image_field.storage, self.embedder.extractor.spec, get_pool()
        memory = self._memory(len(claimed))
        futures = pool.submit(storage, [c.picture.image for c in claimed], spec, memory)
        return Batch(claimed, memory, futures)

    def _memory(self, count: int) -> NDArray[np.uint8]:
        for i, memory in enumerate(self.spare):
            if len(memory) >= count:
                return self.spare.pop(i)
        self.spare.clear()  # too small for batches as they come now
        size = self.embedder.extractor.spec.input_size
        return np.empty((count, size, size, 3), np.uint8)

    def _unfinished(self) -> list[Claim]:
        return [c for batch in self.inferring + self.decoding for c in batch.claimed]


def _undecoded(claimed: list[Claim], kept: dict[str, NDArray[np.float16]]) -> Batch:
    """A batch of pictures whose features are kept: there is nothing to decode."""
    done: Future[None] = Future()
    done.set_result(None)
    features = np.stack([kept[one.picture.object_id] for one in claimed])
    return Batch(claimed, np.empty((0, 0, 0, 3), np.uint8), [done] * len(claimed), features=features)
