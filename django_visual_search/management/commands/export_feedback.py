"""``manage.py export_feedback``: the stored data of one person, for that person to read."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from ...feedback.privacy import personal_data
from .. import DatabaseCommand, add_person, sessions_of_person


class Command(DatabaseCommand):
    help = "Write the feedback and searches of one person as JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_person(parser)
        parser.add_argument("--output", metavar="FILE", help="File to write to; the standard output by default.")

    def handle(self, *, user: str | None, session: str | None, output: str | None, **options: Any) -> None:
        text = json.dumps(personal_data(sessions_of_person(user, session)), indent=2, ensure_ascii=False)
        if output is None:
            self.stdout.write(text)
            return
        try:
            Path(output).write_text(text + "\n", encoding="utf-8")
        except OSError as e:
            raise CommandError(f"{output} can't be written: {e}") from e
