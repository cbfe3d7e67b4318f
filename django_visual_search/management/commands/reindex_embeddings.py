"""``manage.py reindex_embeddings``: bring every vector up to date."""

from __future__ import annotations

import contextlib
import time
from argparse import ArgumentParser
from collections.abc import Generator
from typing import Any

from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, connections, router

from ... import indexing
from ...conf import conf
from ...db.rows import all_rows
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...fields.keys import split_key
from ...fields.registry import embedding_fields, get_field
from ...indexing import Outcome, ann
from ...indexing.runs import Run
from ...models import IndexingAttempt, IndexingRun
from .. import DatabaseCommand
from ..celery_reindex import embed_by_workers, worker_processes
from ..progress import Progress

WORKER_PASSES = 3
"""Passes in which no worker gets anything done (each lasts ``LEASE_SECONDS``) before the command gives up."""

LISTED = 20
"""Pictures without a vector that are named at the end."""


class Command(DatabaseCommand):
    help = (
        "Embed every picture whose vector is missing or out of date. Run it again after an interruption: it goes on "
        "where it stopped. Searches go on meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("labels", nargs="*", metavar="app.Model.field", help="Only these fields; all by default.")
        parser.add_argument(
            "--force", action="store_true", help="Embed current, refused and quarantined pictures again too."
        )
        parser.add_argument("--sync", action="store_true", help="Embed in this process instead of the Celery workers.")
        parser.add_argument(
            "--batch-size", type=int, default=conf.BATCH_SIZE, help="Pictures per batch (default %(default)s)."
        )

    def handle(self, *labels: str, **options: Any) -> None:
        if options["batch_size"] < 1:
            raise CommandError("--batch-size must be at least 1.")
        try:
            fields = [get_field(label) for label in options["labels"]] or embedding_fields()
        except LookupError as e:
            raise CommandError(str(e.args[0])) from e
        if not fields:
            raise CommandError("No model has an EmbeddingField. Add one, as the README shows, and migrate.")
        try:
            complete = []
            for field in fields:
                with ann.reindexing(field):
                    complete.append(self._reindex(field, **options))
        except ExtractorUnavailable as e:
            raise CommandError(str(e)) from e
        except (InterfaceError, OperationalError) as e:
            if _interrupted(e):
                raise _stopped(fields) from None
            raise CommandError(f"The database went away. Run the command again to go on from here. ({e})") from e
        except KeyboardInterrupt:
            raise _stopped(fields) from None
        if not all(complete):
            raise CommandError("Some pictures have no vector; see the reasons above.", returncode=1)

    def _reindex(self, field: EmbeddingField, *, force: bool, sync: bool, batch_size: int, **options: Any) -> bool:
        """Reindex a field; return whether every picture has its vector now."""
        indexing.quarantine_lost(field)
        indexing.drop_needless_attempts(field)
        rows = all_rows(field.target_model, router.db_for_write(field.model)).count()
        # Unfinished until the index is built: where this is killed before, a sweep builds it.
        run = Run(field, IndexingRun.Kind.COMMAND)
        run.write(Outcome())
        if ann.worth_rebuilding(rows if force else indexing.pending(field).count(), rows):
            ann.drop_indexes(field)
        if force:
            indexing.mark_stale(field)
        run.total = indexing.pending(field).count()
        self.stdout.write(f"{field.label}: {run.total} of {rows} pictures to embed")
        outcome = Outcome(skipped=rows - run.total)
        try:
            self._embed(field, run, outcome, sync, batch_size)
        except (InterfaceError, OperationalError):
            raise
        except Exception:
            # Searches must not stay slow, whatever stopped the work; without a database nothing can be done.
            ann.build_indexes(field)
            raise
        for name in ann.build_indexes(field):
            self.stdout.write(f"{field.label}: built index {name}")
        if run.total:
            ann.analyze(field)
        run.finish(outcome)
        return self._summarise(field, outcome, rows)

    def _embed(self, field: EmbeddingField, run: Run, outcome: Outcome, sync: bool, batch_size: int) -> None:
        """Embed pending pictures, add to the outcome and show the progress."""
        progress = Progress(self.stderr if self.stderr.isatty() else self.stdout, run.total or 0)
        run.write(outcome)
        try:
            # They hold claims, so their end is not left to the garbage collector.
            with contextlib.closing(self._passes(field, sync, batch_size)) as steps:
                for step in steps:
                    step.skipped = 0
                    outcome.add(step)
                    run.show(outcome)
                    progress.show(outcome.settled)
            run.write(outcome)
        finally:
            progress.finish()

    def _passes(self, field: EmbeddingField, sync: bool, batch_size: int) -> Generator[Outcome, None, None]:
        """Embed until no picture is pending or nothing changes any more; wait for pictures of other processes."""
        said: set[str] = set()
        fruitless = 0
        while True:
            moved, processes = False, 0
            # Asked first: a picture that is claimed now, and below no longer, is pending then.
            claimed = indexing.claimed(field).exists()
            if indexing.pending(field).exists():
                processes = 0 if sync else worker_processes()
                if processes:
                    steps = embed_by_workers(field, batch_size, processes)
                else:
                    steps = indexing.embed(field, indexing.pending_keys(field), batch_size=batch_size)
                    if not sync:
                        self._say_once("No Celery worker answers; embedding in this process.", said)
                with contextlib.closing(steps):
                    for step in steps:
                        moved = moved or step.settled > 0
                        yield step
            if moved:
                fruitless = 0
            elif claimed:
                self._say_once(
                    "Waiting for pictures that another process works on, or was working on when it was killed.", said
                )
                time.sleep(1)
            else:
                fruitless += 1
                if fruitless >= (WORKER_PASSES if processes else 1):
                    return

    def _say_once(self, text: str, said: set[str]) -> None:
        if text not in said:
            said.add(text)
            self.stdout.write(text)

    def _summarise(self, field: EmbeddingField, outcome: Outcome, rows: int) -> bool:
        """Write the results; return whether all pictures have their vectors."""
        left = indexing.pending(field).count()
        outcome.skipped = max(0, rows - outcome.settled - left)  # another command's results among them
        self.stdout.write(
            f"{field.label}: {outcome.done} done, {outcome.skipped} skipped, {outcome.cleared} cleared, "
            f"{outcome.refused} refused, {outcome.failed} failed, {outcome.quarantined} quarantined"
            + (f", {left} left" if left else "")
        )
        bad = IndexingAttempt.objects.using(router.db_for_write(field.model)).filter(label=field.label)
        bad = bad.exclude(state=IndexingAttempt.State.RUNNING)
        bad = bad.exclude(attempts=0, message="")  # given back: among those that are left
        for attempt in bad.order_by("object_id")[:LISTED]:
            _, image = split_key(attempt.key)
            self.stdout.write(f"  {attempt.state}: {attempt.object_id} ({image}): {attempt.message} [{attempt.code}]")
        count = bad.count()
        if count > LISTED:
            self.stdout.write(f"  … and {count - LISTED} more, in the table {IndexingAttempt._meta.db_table}")
        if left:
            self.stdout.write(
                f"  {left} left: locked by another transaction, saved just now, or workers are busy. "
                "Run the command again."
            )
        return count == 0 and not left


def _interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error: in the middle of a statement, it can close the connection."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _stopped(fields: list[EmbeddingField]) -> CommandError:
    """Return the error that an interrupted command ends with."""
    message = "Stopped. Run the command again to go on from here."
    connections.close_all()  # a statement may have been under way
    with contextlib.suppress(InterfaceError, OperationalError):
        if any(ann.missing_indexes(field) for field in fields):
            message += " It will also build the ANN index, which is missing now: searches work without it, but slowly."
    return CommandError(message, returncode=130)
