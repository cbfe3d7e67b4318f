"""``manage.py erase_feedback``: delete the data of one person."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from ...feedback.privacy import erase
from .. import DatabaseCommand, add_person, sessions_of_person


class Command(DatabaseCommand):
    help = "Delete the feedback and searches of one person, and undo their effect on rankings."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_person(parser)

    def handle(self, *, user: str | None, session: str | None, **options: Any) -> None:
        done = erase(sessions_of_person(user, session))
        self.stdout.write(f"Erased: {done['events']} events, {done['searches']} searches")
