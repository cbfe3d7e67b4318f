"""Shared by commands: a base class, and the arguments that name a person."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError

from ..feedback.privacy import sessions_of_user


class DatabaseCommand(BaseCommand):
    """A command that reports a lost database in a sentence."""

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except (InterfaceError, OperationalError) as e:
            raise CommandError(f"The database went away. Run the command again once it is back. ({e})") from e


def add_person(parser: ArgumentParser) -> None:
    person = parser.add_mutually_exclusive_group(required=True)
    person.add_argument("--user", metavar="PK", help="Primary key of a user, whose row may be deleted already.")
    person.add_argument("--session", metavar="HEX", help="A pseudonym from the table of feedback.")


def sessions_of_person(user: str | None, session: str | None) -> list[str]:
    """Return every pseudonym of the person. Raises CommandError for a malformed primary key or pseudonym."""
    if session is not None:
        if not re.fullmatch(r"[0-9a-f]{64}", session):
            raise CommandError("--session takes a pseudonym of 64 hexadecimal digits.")
        return [session]
    try:
        return sessions_of_user(user)
    except ValueError as e:
        raise CommandError(str(e)) from e
