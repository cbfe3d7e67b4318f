"""Embed pictures in batches: while one batch is inferred, the one before it is written and the next ones are decoded.

Entry function: ``embed``. A batch of stale keys is looked up, *claimed* so that no other process works on it, read and
decoded (``decoding``), embedded (``embedder``) and written where its rows still have the pictures that were read
(``writes``). What becomes of each picture is counted in an ``Outcome``; its attempt keeps why it has no vector.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from django.core.exceptions import SuspiciousOperation
from django.db import Error as DatabaseFailure
from django.db import router
from django.db.models import Exists

from ..conf import conf
from ..db.rows import all_rows, key_text
from ..decoding.decoder import Decoded, DecoderLost
from ..decoding.pool import get_pool
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.keys import is_marked, split_key
from ..images import ImageRefused
from ..spaces.heads import wanted_extractor
from . import claims
from .claims import Claim, Lease, Picture
from .embedder import EmbeddedBatch, Embedder
from .runs import Outcome
from .stale import attempts_at, batched, stale
from .writes import clear, write

logger = logging.getLogger("django_visual_search")

DECODED_AHEAD = 2
"""Batches that are being decoded while one is inferred: enough for the decoders while this process talks to the
database."""


def embed(
    field: EmbeddingField, keys: Iterable[Any], *, batch_size: int | None = None
) -> Generator[Outcome, None, None]:
    """Embed the rows with these primary keys (of the model that has the picture) that are stale.

    Yields an outcome a batch. If closed early, it gives back the claims on the rest. Raises
    ExtractorUnavailable, with the claims given back, where the extractor can't run here.
    """
    pipeline = _Pipeline(field)
    try:
        for batch in batched(keys, batch_size or conf.BATCH_SIZE):
            pipeline.take(batch)
            yield pipeline.outcome()
        while pipeline.busy:
            pipeline.advance()
            yield pipeline.outcome()
        pipeline.lease.hold([])
    finally:
        pipeline.close()


@dataclass
class Batch:
    """Claimed pictures, and what they are embedded from: pixels, or the features that are kept of them."""

    claimed: list[Claim]
    files: list[Future[list[Decoded]]] = dataclass_field(default_factory=list)
    """Being read and decoded, a few pictures each."""
    inputs: Any = None
    """Pixels, uint8 ``(len(claimed), s, s, 3)``, once they are decoded; or features, float16 ``(len(claimed), w)``."""
    kept: bool = False
    """Whether the inputs are features."""
    embedded: Future[EmbeddedBatch] | None = None

    def singly(self) -> Iterator[Batch]:
        """Yield a batch for each picture."""
        for i, claimed in enumerate(self.claimed):
            yield Batch([claimed], inputs=self.inputs[i : i + 1], kept=self.kept)


class _Pipeline:
    """The batches on their way: claimed and decoding, then at most one that is inferred."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.embedder = Embedder(field, wanted_extractor(field))
        self.lease = Lease(field)
        self.decoding: list[Batch] = []
        self.inferring: list[Batch] = []
        self._outcome = Outcome()

    @property
    def busy(self) -> bool:
        return bool(self.decoding or self.inferring)

    def outcome(self) -> Outcome:
        """Return what became of pictures since the last call."""
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def take(self, keys: tuple[Any, ...]) -> None:
        """Claim the stale ones of these rows and begin to decode them; advance if DECODED_AHEAD batches are ahead."""
        untried, tried = self._look_up(keys)
        if untried or tried:
            self.embedder.load()
        # What an earlier attempt did not finish goes alone: what killed that one takes no other picture with it.
        for picture in tried:
            self._drain()
            self._start([picture])
        if tried:
            self._drain()
        self._start(untried)
        if len(self.decoding) >= DECODED_AHEAD:
            self.advance()

    def advance(self) -> None:
        """Begin to infer the batch that has been decoded longest, and write the one before it meanwhile."""
        before = list(self.inferring)
        if self.decoding:
            batch = self._decoded(self.decoding[0])
            del self.decoding[0]
            if batch.claimed:
                batch.embedded = self.embedder.submit(batch.inputs, kept=batch.kept)
                self.inferring.append(batch)
        for batch in before:
            self._finish(batch)
            self.inferring.remove(batch)

    def close(self) -> None:
        """Cancel what is being decoded and give back the claims still held, without counting an attempt."""
        for batch in self.decoding:
            for future in batch.files:
                future.cancel()
        self.lease.give_back()
        self.embedder.close()

    def _drain(self) -> None:
        while self.busy:
            self.advance()

    def _look_up(self, keys: tuple[Any, ...]) -> tuple[list[Picture], list[Picture]]:
        """Clear vectors whose picture was removed; return the other stale rows as (never tried, tried before)."""
        rows = stale(self.field).annotate(visual_tried=Exists(attempts_at(self.field).filter(attempts__gt=0)))
        rows = rows.annotate(visual_pause=claims.last_pause(self.field)).filter(pk__in=keys)
        rows = rows.values_list("pk", "visual_image", "visual_wanted", "visual_tried", "visual_pause")
        self._outcome.skipped += len(keys) - len(rows)
        removed = [pk for pk, image, *_ in rows if not image]
        if removed:
            self._outcome.cleared += clear(self.field, removed)
        pictures: tuple[list[Picture], list[Picture]] = [], []
        for pk, image, wanted, tried, pause in rows:
            if image:
                object_id = key_text(self.field.target_model, pk, rows.db)
                pictures[tried].append(Picture(object_id, image, wanted, pause.total_seconds() if pause else 0))
        return pictures

    def _start(self, pictures: list[Picture]) -> None:
        """Claim pictures and begin to decode them, or read the features that are kept of them."""
        if not pictures:
            return
        claimed = claims.claim(self.field, pictures, self.lease.expect(pictures))
        self._outcome.skipped += len(pictures) - len(claimed)
        kept = self.embedder.kept(claimed)
        with_features = [c for c in claimed if c.picture.object_id in kept]
        if with_features:
            features = np.stack([kept[c.picture.object_id] for c in with_features])
            self.decoding.append(Batch(with_features, inputs=features, kept=True))
        others = [c for c in claimed if c.picture.object_id not in kept]
        if others:
            names, spec = [c.picture.image for c in others], self.embedder.extractor.spec
            self.decoding.append(Batch(others, get_pool().submit(self.field.image_field.storage, names, spec)))
        self.lease.hold([c for batch in self.inferring + self.decoding for c in batch.claimed])

    def _decoded(self, batch: Batch) -> Batch:
        """Wait for the batch's pictures and return those that were decoded; the others are settled."""
        if batch.kept:
            return batch
        decoded = [one for future in batch.files for one in self.lease.wait(future)]
        ready, missing = [], []
        for claimed, one in zip(batch.claimed, decoded, strict=True):
            if isinstance(one, FileNotFoundError):
                missing.append((claimed, one))
            elif isinstance(one, Exception):
                self._give_up(claimed, one)
            else:
                ready.append((claimed, one))
        if missing:
            self._give_up_missing(missing, [c.picture.image for c, _ in ready])
        return Batch([c for c, _ in ready], inputs=np.stack([pixels for _, pixels in ready]) if ready else None)

    def _give_up(self, claimed: Claim, reason: Exception) -> None:
        """Settle a claim on a picture that has no pixels."""
        image = claimed.picture.image
        match reason:
            case ImageRefused():
                self._refuse(claimed, reason.code, str(reason))
            case SuspiciousOperation() | IsADirectoryError() | NotADirectoryError() | OSError(errno=errno.ENAMETOOLONG):
                self._refuse(claimed, "unsafe_name", f"The storage refuses the name {image!r}: {reason}")
            case DecoderLost():
                self._fail(claimed, reason.code, str(reason))
            case _:
                # The storage may be down; that is not this picture's fault.
                logger.warning("visual search: can't read %s of %s: %s", image, self.field.label, reason)
                self._postpone(claimed, reason)

    def _give_up_missing(self, missing: list[tuple[Claim, FileNotFoundError]], read: list[str]) -> None:
        """Refuse pictures that the storage doesn't have, where it still has others; else it is away.

        ``read``: names of pictures that it had a moment ago.
        """
        storage = self.field.image_field.storage
        is_there = any(has_file(storage, name) for name in (*read[:1], *embedded_names(self.field)))
        for claimed, reason in missing:
            image = claimed.picture.image
            # Asked again, as it may have been away only when the picture was read.
            if is_there and not has_file(storage, image):
                self._refuse(claimed, "missing_file", f"The storage has no file {image!r}.")
            else:
                self._postpone(claimed, reason)
        if not is_there:
            logger.warning("visual search: the storage of %s has no picture at the moment", self.field.label)

    def _postpone(self, claimed: Claim, reason: Exception) -> None:
        claims.postpone(self.field, claimed, f"The storage failed: {reason}")
        self._outcome.failed += 1
        self._outcome.reasons[claims.STORAGE] += 1

    def _finish(self, batch: Batch) -> None:
        """Wait for the batch's vectors and write them; raises ExtractorUnavailable and database errors.

        Where the extractor or the database rejects a batch, its pictures are embedded one by one.
        """
        field, claimed = self.field, batch.claimed
        try:
            vectors, made = self.lease.wait(batch.embedded or self.embedder.submit(batch.inputs, kept=batch.kept))
            written = write(field, claimed, vectors)
        except ExtractorUnavailable:
            raise  # nothing to do with these pictures
        except Exception as e:
            if isinstance(e, DatabaseFailure) and not _rejects_a_row(e):
                raise
            if len(claimed) > 1:
                for one in batch.singly():
                    self._finish(one)
                return
            image = claimed[0].picture.image
            logger.warning("visual search: embedding %s of %s failed", image, field.label, exc_info=True)
            self._fail(claimed[0], "extractor", f"{type(e).__name__}: {e}")
            return
        if made is not None:
            self.embedder.keep(claimed, made, written)
        lost = [c for c in claimed if c.picture.object_id not in written]
        if lost:
            # Replaced, deleted or locked meanwhile; the sweep looks again.
            claims.release(field, lost)
        self._outcome.done += len(written)
        self._outcome.skipped += len(lost)

    def _refuse(self, claimed: Claim, code: str, message: str) -> None:
        claims.refuse(self.field, claimed, code, message)
        self._outcome.refused += 1
        self._outcome.reasons[code] += 1

    def _fail(self, claimed: Claim, code: str, message: str) -> None:
        if claims.fail(self.field, claimed, code, message):
            self._outcome.quarantined += 1
        else:
            self._outcome.failed += 1
        self._outcome.reasons[code] += 1


OTHERS = 3
"""Pictures that the storage is asked for, before it is believed that one is missing."""


def embedded_names(field: EmbeddingField) -> list[str]:
    """Return names of a few pictures that were embedded, the newest rows'."""
    rows = all_rows(field.model, router.db_for_write(field.model)).filter(**{f"{field.key_name}__isnull": False})
    rows = rows.exclude(is_marked(field.key_name)).order_by("-pk")
    return [split_key(key)[1] for key in rows.values_list(field.key_name, flat=True)[:OTHERS]]


def has_file(storage: Any, name: str) -> bool:
    """Return whether the storage has the file; not where it fails in any way."""
    try:
        return bool(storage.exists(name))
    except Exception:
        return False


def _rejects_a_row(error: DatabaseFailure) -> bool:
    """Return whether a constraint, a trigger or a value stopped the write, not the connection or the server.

    SQLSTATE classes 22 (data exception), 23 (integrity constraint violation), P0 (raised by PL/pgSQL).
    """
    return str(getattr(error.__cause__, "sqlstate", None) or "")[:2] in ("22", "23", "P0")
