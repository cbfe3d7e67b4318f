"""``manage.py switch_embedding``: let a learned head, or another extractor, make a field's vectors; or go back."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from ... import indexing
from ...conf import conf
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...fields.registry import get_field, only_field
from ...models import EmbeddingHead
from ...spaces.heads import key_of_space
from ...spaces.serving import serving
from ...training import switching


class Command(BaseCommand):
    help = (
        "Switch a field to a head that train_embedding learned, or to an extractor of the settings, while searches go "
        "on. Refuses what was measured to be worse. Run it again after an interruption: it goes on where it stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", nargs="?", metavar="HEAD|EXTRACTOR", help="What is to serve.")
        parser.add_argument(
            "label", nargs="?", metavar="app.Model.field", help="Needed where there are several fields."
        )
        parser.add_argument("--rollback", action="store_true", help="Go back to what served before the latest switch.")
        parser.add_argument(
            "--force", action="store_true", help="Switch though it is worse, or not known to be better."
        )
        parser.add_argument("--sync", action="store_true", help="Embed in this process instead of the Celery workers.")
        parser.add_argument("--batch-size", type=int, default=conf.BATCH_SIZE, help="Pictures per batch.")

    def handle(self, *, target: str | None, label: str | None, **options: Any) -> None:
        try:
            if options["rollback"]:
                # With --rollback the only word is the field.
                field = _field(label or target)
                announced = switching.roll_back(field)
            elif target is None:
                raise CommandError("Name a head or an extractor, or say --rollback.")
            else:
                field = self._field_for(target, label)
                announced = self._switch(field, target, options["force"])
            self._move(field, announced, options["sync"], options["batch_size"])
        except LookupError as e:
            raise CommandError(str(e.args[0])) from e
        except (ValueError, ExtractorUnavailable, ImproperlyConfigured) as e:
            raise CommandError(str(e)) from e

    def _field_for(self, target: str, label: str | None) -> EmbeddingField:
        if label is None:
            head = EmbeddingHead.objects.filter(name=target).first()
            label = head.label if head else None
        return _field(label)

    def _switch(self, field: EmbeddingField, target: str, force: bool) -> switching.Announced:
        space = switching.space_named(field, target)
        if space == serving(field).wanted:
            self.stdout.write(f"{field.label}: {target} serves already.")
        elif not force and (why := switching.worse(field, space, self.stdout.write)):
            raise switching.SwitchRefused(f"{why} To switch all the same: --force.")
        return switching.announce(field, space)

    def _move(self, field: EmbeddingField, announced: switching.Announced, sync: bool, batch_size: int) -> None:
        self.stdout.write(f"{field.label}: vectors of {key_of_space(field, announced.space)} are to serve.")
        if announced.seconds > 0:
            self.stdout.write(f"Waiting {announced.seconds:.0f} s, until every process asks for both kinds of vectors.")
            time.sleep(announced.seconds + 0.1)
        switching.know_anew()
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
        if indexing.end_switch(field) or serving(field).also is None:
            self.stdout.write(
                f"{field.label}: switched. To go back: manage.py switch_embedding --rollback {field.label}"
            )
        else:
            raise CommandError("Some vectors are still to be moved; the workers go on. Run the command again to see.")
        if failed and (lost := indexing.outdated(field).count()):
            raise CommandError(
                f"Pictures that had a vector before and have none in this space, so that they are not found any more: "
                f"{lost}. See the reasons above.",
                returncode=1,
            )
        if failed:
            self.stdout.write("The pictures named above had no vector before either.")


def _field(label: str | None) -> EmbeddingField:
    return get_field(label) if label else only_field()
