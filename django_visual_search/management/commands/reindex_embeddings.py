"""``manage.py reindex_embeddings``: bring every vector up to date."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import indexing
from ...conf import conf
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...indexing import ann, queueing
from ...models import IndexingAttempt
from ...progress import Progress
from ...registry import embedding_fields, get_field


class Command(BaseCommand):
    help = (
        "Embed every picture whose vector is missing or out of date. Run it again after an interruption: it goes on where it "
        "stopped. Searches go on meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("labels", nargs="*", metavar="app.Model.field", help="Only these fields; all by default.")
        parser.add_argument("--force", action="store_true", help="Embed current, refused and quarantined pictures again too.")
        parser.add_argument("--sync", action="store_true", help="Embed in this process instead of the Celery workers.")
        parser.add_argument("--batch-size", type=int, default=conf.BATCH_SIZE, help="Pictures per batch (default %(default)s).")

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
            good = [self._reindex(field, **options) for field in fields]
        except ExtractorUnavailable as e:
            raise CommandError(str(e)) from e
        if not all(good):
            raise CommandError("Some pictures have no vector; see the reasons above.", returncode=1)

    def _reindex(self, field: EmbeddingField, *, force: bool, sync: bool, batch_size: int, **options: Any) -> bool:
        """Whether every picture of the field has its vector now."""
        if force:
            indexing.mark_stale(field)
        indexing.quarantine_lost(field)
        work = indexing.pending(field).count()
        total = field.target_model._base_manager.count()
        rebuild = ann.worth_rebuilding(work, total)
        self.stdout.write(f"{field.label}: {work} of {total} pictures to embed")
        if rebuild:
            ann.drop_indexes(field)
        progress = Progress(self.stderr if self.stderr.isatty() else self.stdout, work)
        total_report = indexing.Report(skipped=total - work)
        try:
            for report in self._work(field, sync, batch_size):
                total_report.add(report)
                done = total_report.skipped - (total - work) + total_report.done + total_report.cleared
                progress.show(done + total_report.refused + total_report.failed + total_report.quarantined)
        except KeyboardInterrupt:
            raise CommandError("Stopped. Run the command again to go on from here.", returncode=130) from None
        finally:
            progress.finish()
        for name in ann.build_indexes(field):
            self.stdout.write(f"{field.label}: built index {name}")
        if work:
            ann.analyze(field)
        return self._summarise(field, total_report)

    def _work(self, field: EmbeddingField, sync: bool, batch_size: int) -> Iterator[indexing.Report]:
        if sync or not queueing.has_workers():
            if not sync:
                self.stdout.write("No Celery worker answers; embedding in this process.")
            return indexing.embed(field, indexing.pending_keys(field), batch_size=batch_size)
        return queueing.embed_by_workers(field, batch_size)

    def _summarise(self, field: EmbeddingField, report: indexing.Report) -> bool:
        self.stdout.write(
            f"{field.label}: {report.done} done, {report.skipped} skipped, {report.cleared} cleared, {report.refused} refused, "
            f"{report.failed} failed, {report.quarantined} quarantined"
        )
        bad = IndexingAttempt.objects.filter(label=field.label).exclude(state=IndexingAttempt.State.RUNNING)
        for attempt in bad.order_by("object_id")[:20]:
            image = attempt.key.partition(":")[2]
            self.stdout.write(f"  {attempt.state}: {attempt.object_id} ({image}): {attempt.message} [{attempt.code}]")
        count = bad.count()
        if count > 20:
            self.stdout.write(f"  … and {count - 20} more, in the table {IndexingAttempt._meta.db_table}")
        return count == 0
