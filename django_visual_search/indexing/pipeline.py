"""Embed pictures in batches: while one batch is inferred, the one before it is written and the next ones are decoded.

Entry function: ``embed``. A batch of stale keys is looked up, *claimed* so that no other process works on it, read and
decoded (``decoding``), embedded (``embedder``) and written where its rows still have the pictures that were read
(``writes``). Each picture's result is counted in an ``Outcome``; its attempt keeps the reason for a missing vector.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, TypeVar

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
from ..fields.keys import file_name, is_marked, split_area, split_key
from ..images import ImageRefused
from ..spaces.heads import serving_extractor
from . import claims
from .claims import Claim, Lease, Picture
from .embedder import EmbeddedBatch, Embedder
from .runs import Outcome
from .stale import attempts_at, batched, pending, stale
from .writes import clear, write

logger = logging.getLogger("django_visual_search")

T = TypeVar("T")

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
    """Claimed pictures with their inputs: pixels, or the features that are kept of them."""

    groups: list[list[Claim]]
    """By picture; several rows that share one have a claim each."""
    files: list[Future[list[Decoded]]] = dataclass_field(default_factory=list)
    """Being read and decoded, a few pictures each."""
    inputs: Any = None
    """Pixels, uint8 ``(len(groups), s, s, 3)``, once they are decoded; or features, float16 ``(len(groups), w)``."""
    kept: bool = False
    """Whether the inputs are features."""
    embedded: Future[EmbeddedBatch] | None = None

    @property
    def claimed(self) -> list[Claim]:
        return [claimed for group in self.groups for claimed in group]

    def each_claim(self, made: Any) -> Any:
        """Return each picture's vector, for each claim."""
        return np.repeat(made, [len(group) for group in self.groups], axis=0)

    def smaller(self) -> Iterator[Batch]:
        """Yield a batch for each picture, or of a single picture for each of its rows."""
        if len(self.groups) == 1:
            yield from (Batch([[claimed]], inputs=self.inputs, kept=self.kept) for claimed in self.claimed)
            return
        for i, group in enumerate(self.groups):
            yield Batch([group], inputs=self.inputs[i : i + 1], kept=self.kept)


MOST_SHARING = 1000
"""Most rows that join a batch because they share its pictures; further rows decode the picture again."""


class _Pipeline:
    """The batches on their way: claimed and decoding, then at most one that is inferred."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.embedder = Embedder(field, serving_extractor(field))
        self.lease = Lease(field)
        self.decoding: list[Batch] = []
        self.inferring: list[Batch] = []
        self._outcome = Outcome()
        self._along: set[Any] = set()
        """Keys of rows that joined an earlier batch because they share a picture, and whose turn is still to come."""

    @property
    def busy(self) -> bool:
        return bool(self.decoding or self.inferring)

    def outcome(self) -> Outcome:
        """Return the results since the last call."""
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def take(self, keys: tuple[Any, ...]) -> None:
        """Claim the stale ones of these rows and begin to decode them; advance if DECODED_AHEAD batches are ahead."""
        done = self._along.intersection(keys)
        self._along -= done
        untried, tried = self._look_up(tuple(key for key in keys if key not in done))
        if untried or tried:
            self.embedder.load()
        # A picture that an earlier attempt did not finish goes alone: if it kills this process, no other is lost.
        for same in _by_picture(tried, lambda picture: picture.image):
            self._drain()
            self._start(same)
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
            if batch.groups:
                batch.embedded = self.embedder.submit(batch.inputs, kept=batch.kept)
                self.inferring.append(batch)
        for batch in before:
            self._finish(batch)
            self.inferring.remove(batch)

    def close(self) -> None:
        """Cancel the decoding and release the claims still held, without counting an attempt."""
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
        stale_rows = stale(self.field).annotate(_visual_tried=Exists(attempts_at(self.field).filter(attempts__gt=0)))
        stale_rows = stale_rows.annotate(_visual_pause=claims.last_pause(self.field))
        columns = ["pk", "_visual_image", "_visual_wanted", "_visual_tried", "_visual_pause"]
        if self.field.route:
            columns.append(self._owner_of_picture)
        rows = list(stale_rows.filter(pk__in=keys).values_list(*columns))
        self._outcome.skipped += len(keys) - len(rows)
        removed = [pk for pk, image, *_ in rows if not image]
        if removed:
            self._outcome.cleared += clear(self.field, removed)
        if self.field.route:
            rows += self._sharing(stale_rows.values_list(*columns), keys, {row[-1] for row in rows if row[1]})
        pictures: tuple[list[Picture], list[Picture]] = [], []
        for pk, image, wanted, tried, pause, *_ in rows:
            if image:
                object_id = key_text(self.field.target_model, pk, stale_rows.db)
                pictures[tried].append(Picture(object_id, image, wanted, pause.total_seconds() if pause else 0))
        return pictures

    @property
    def _owner_of_picture(self) -> str:
        return "__".join(relation.name for relation in self.field.route)

    def _sharing(self, stale_rows: Any, keys: tuple[Any, ...], shared: set[Any]) -> list[Any]:
        """Return further stale rows that lead to the same pictures, and take them out of this run."""
        free = pending(self.field).filter(**{f"{self._owner_of_picture}__in": shared}).exclude(pk__in=keys)
        more = list(free.order_by("pk").values_list("pk", flat=True)[:MOST_SHARING]) if shared else []
        self._along.update(more)
        return list(stale_rows.filter(pk__in=more)) if more else []

    def _start(self, pictures: list[Picture]) -> None:
        """Claim pictures and begin to decode them, or read the features that are kept of them."""
        if not pictures:
            return
        claimed = claims.claim(self.field, pictures, self.lease.expect(pictures))
        self._outcome.skipped += len(pictures) - len(claimed)
        kept = self.embedder.kept(claimed)
        groups = _by_picture(claimed, lambda claim: claim.picture.image)
        with_features = [group for group in groups if _all_kept(group, kept)]
        others = [group for group in groups if not _all_kept(group, kept)]
        if with_features:
            features = np.stack([kept[group[0].picture.object_id] for group in with_features])
            self.decoding.append(Batch(with_features, inputs=features, kept=True))
        if others:
            named = [split_area(self.field, group[0].picture.image) for group in others]
            names, areas = zip(*named, strict=True)
            spec, storage = self.embedder.extractor.spec, self.field.image_field.storage
            self.decoding.append(Batch(others, get_pool().submit(storage, names, spec, areas)))
        self.lease.hold([c for batch in self.inferring + self.decoding for c in batch.claimed])

    def _decoded(self, batch: Batch) -> Batch:
        """Wait for the batch's pictures and return those that were decoded; the others are settled."""
        if batch.kept:
            return batch
        decoded = [one for future in batch.files for one in self.lease.wait(future)]
        ready, missing = [], []
        for group, one in zip(batch.groups, decoded, strict=True):
            if isinstance(one, FileNotFoundError):
                missing += [(claimed, one) for claimed in group]
            elif isinstance(one, Exception):
                for claimed in group:
                    self._give_up(claimed, one)
            else:
                ready.append((group, one))
        if missing:
            self._give_up_missing(missing, [self._file(group[0]) for group, _ in ready])
        return Batch([group for group, _ in ready], inputs=np.stack([pixels for _, pixels in ready]) if ready else None)

    def _file(self, claimed: Claim) -> str:
        return file_name(self.field, claimed.picture.image)

    def _give_up(self, claimed: Claim, reason: Exception) -> None:
        """Settle a claim on a picture that gave no pixels."""
        image = self._file(claimed)
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
            image = self._file(claimed)
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
            written = write(field, claimed, batch.each_claim(vectors))
        except ExtractorUnavailable:
            raise  # nothing to do with these pictures
        except Exception as e:
            if isinstance(e, DatabaseFailure) and not _rejects_a_row(e):
                raise
            if len(claimed) > 1:
                for smaller in batch.smaller():
                    self._finish(smaller)
                return
            image = self._file(claimed[0])
            logger.warning("visual search: embedding %s of %s failed", image, field.label, exc_info=True)
            self._fail(claimed[0], "extractor", f"{type(e).__name__}: {e}")
            return
        if made is not None:
            self.embedder.keep(claimed, batch.each_claim(made), written)
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


def _by_picture(them: Iterable[T], picture_of: Callable[[T], str]) -> list[list[T]]:
    """Group claims by picture, in the order of the first of each."""
    groups: dict[str, list[T]] = {}
    for one in them:
        groups.setdefault(picture_of(one), []).append(one)
    return list(groups.values())


def _all_kept(group: list[Claim], kept: dict[str, Any]) -> bool:
    """Return whether all rows of a picture have kept features; a row that is embedded again has none."""
    return all(claimed.picture.object_id in kept for claimed in group)


OTHERS = 3
"""Pictures that the storage must have before a missing one counts as missing."""


def embedded_names(field: EmbeddingField) -> list[str]:
    """Return names of a few pictures that were embedded, the newest rows'."""
    rows = all_rows(field.model, router.db_for_write(field.model)).filter(**{f"{field.key_name}__isnull": False})
    rows = rows.exclude(is_marked(field.key_name)).order_by("-pk")
    return [file_name(field, split_key(key)[1]) for key in rows.values_list(field.key_name, flat=True)[:OTHERS]]


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
