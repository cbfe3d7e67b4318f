"""``manage.py switch_embedding``: let a learned head, or another extractor, make a field's vectors; or roll back."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError

from ... import indexing
from ...conf import conf
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...fields.registry import get_field, only_field
from ...models import EmbeddingHead
from ...spaces.heads import key_of_space
from ...spaces.live import Space, forget_live_spaces, live_spaces
from ...training import switching
from .. import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Switch a field to a head that train_embedding learned, or to an extractor of the settings, while searches go "
        "on. Refuses one that was measured to be worse. After an interruption, run it again: it resumes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", nargs="?", metavar="HEAD|EXTRACTOR", help="The head or extractor to serve.")
        parser.add_argument(
            "label", nargs="?", metavar="app.Model.field", help="Required where the project has several fields."
        )
        parser.add_argument("--rollback", action="store_true", help="Undo the latest switch, finished or not.")
        parser.add_argument("--force", action="store_true", help="Switch even if it is worse, or was never measured.")
        parser.add_argument("--sync", action="store_true", help="Embed in this process instead of the Celery workers.")
        parser.add_argument("--batch-size", type=int, default=conf.BATCH_SIZE, help="Pictures per batch.")

    def handle(self, *, target: str | None, label: str | None, **options: Any) -> None:
        try:
            if options["rollback"]:
                # With --rollback the only argument is the field.
                field = _field(label or target)
                space, seconds = switching.roll_back(field)
            elif target is None:
                raise CommandError("Name a head or an extractor, or say --rollback.")
            else:
                field = self._field_for(target, label)
                space = switching.space_named(field, target)
                self._check(field, target, space, options["force"])
                seconds = switching.announce(field, space)
            self._wait(field, space, seconds)
            self._move(field, options["sync"], options["batch_size"])
        except LookupError as e:
            raise CommandError(str(e.args[0])) from e
        except (ValueError, ExtractorUnavailable, ImproperlyConfigured) as e:
            raise CommandError(str(e)) from e

    def _field_for(self, target: str, label: str | None) -> EmbeddingField:
        if label is None:
            head = EmbeddingHead.objects.filter(name=target).first()
            label = head.label if head else None
        return _field(label)

    def _check(self, field: EmbeddingField, target: str, space: Space, force: bool) -> None:
        if space == live_spaces(field).serving:
            self.stdout.write(f"{field.label}: {target} serves already.")
        elif not force and (why := switching.worse(field, space, self.stdout.write)):
            raise switching.SwitchRefused(f"{why} To switch all the same: --force.")

    def _wait(self, field: EmbeddingField, space: Space, seconds: float) -> None:
        self.stdout.write(f"{field.label}: vectors of {key_of_space(field, space)} are to serve.")
        if seconds > 0:
            self.stdout.write(f"Waiting {seconds:.0f} s, until every process searches both spaces.")
            time.sleep(seconds + 0.1)
        forget_live_spaces()

    def _move(self, field: EmbeddingField, sync: bool, batch_size: int) -> None:
        failed = False
        try:
            call_command(
                "reindex_embeddings",
                field.label,
                sync=sync,
                batch_size=batch_size,
                stdout=self.stdout,
                stderr=self.stderr,
            )
        except CommandError as e:
            if e.returncode != 1:
                raise
            failed = True
        if indexing.end_switch(field) or live_spaces(field).other is None:
            self.stdout.write(
                f"{field.label}: switched. To go back: manage.py switch_embedding --rollback {field.label}"
            )
        else:
            raise CommandError("Some vectors have not moved yet; the workers go on. Run the command again to check.")
        if failed and (lost := indexing.outdated(field).count()):
            raise CommandError(
                f"Pictures that had a vector before and have none in this space, so that no search finds them: {lost}. "
                "See the reasons above.",
                returncode=1,
            )
        if failed:
            self.stdout.write("The pictures named above had no vector before either.")


def _field(label: str | None) -> EmbeddingField:
    return get_field(label) if label else only_field()
