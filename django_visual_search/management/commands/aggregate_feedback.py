"""``manage.py aggregate_feedback``: count new feedback, for shops without the sweep."""

from __future__ import annotations

from typing import Any

from ... import feedback
from .. import DatabaseCommand


class Command(DatabaseCommand):
    help = "Count new feedback into the evidence that rankers read. The sweep task does the same."

    def handle(self, **options: Any) -> None:
        self.stdout.write(f"{feedback.aggregate()} events counted")
