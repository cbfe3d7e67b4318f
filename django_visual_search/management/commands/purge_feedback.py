"""``manage.py purge_feedback``: delete old feedback, for shops without the sweep, or to keep less."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...conf import conf
from ...feedback.privacy import purge
from .. import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Delete feedback and logged searches older than VISUAL_SEARCH['FEEDBACK_DAYS'] days, and evidence to which "
        "nothing was added since."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=conf.FEEDBACK_DAYS, help="Days to keep (default %(default)s).")

    def handle(self, *, days: int, **options: Any) -> None:
        try:
            done = purge(days)
        except ValueError as e:
            raise CommandError(str(e)) from e
        self.stdout.write(
            f"Deleted: {done['events']} events, {done['searches']} searches, {done['evidence']} rows of evidence"
        )
