"""``manage.py import_catalogue FILE.csv``: a real catalogue instead of the drawn one."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from example_project.shop.csv_rows import OPTIONAL, REQUIRED, CatalogueError, RowError, read
from example_project.shop.importing import Importer


class Command(BaseCommand):
    help = (
        f"Import products from a CSV file in UTF-8 with the columns {', '.join(REQUIRED)} "
        f"and optionally {', '.join(OPTIONAL)}. Images are one or more paths within the file's folder, separated by ; "
        "or |. A row updates the product with its SKU or, without SKU, with its name and brand. "
        "Bad rows are reported and skipped. The exit code is 1 if no row was imported, and with --strict if "
        "any row was bad."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.csv")
        parser.add_argument(
            "--strict", action="store_true", help="Exit with 1 if any row was bad; the good ones are imported."
        )
        parser.add_argument(
            "--delimiter", choices=[",", ";", "tab"], help="Default: the most frequent one in the first line."
        )
        parser.add_argument(
            "--no-embed", action="store_true", help="Leave the embedding to the sweep or to reindex_embeddings."
        )

    def handle(self, *, file: Path, strict: bool, delimiter: str | None, no_embed: bool, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        importer, outcomes = Importer(), Counter[str]()
        try:
            for line, row in read(file, "\t" if delimiter == "tab" else delimiter):
                try:
                    if isinstance(row, RowError):
                        raise row
                    outcomes[importer.put(row, line)] += 1
                except (RowError, DatabaseError) as e:
                    outcomes["bad"] += 1
                    self.stderr.write(f"line {line}: {e}")
        except CatalogueError as e:
            raise CommandError(str(e)) from e
        good = outcomes["new"] + outcomes["updated"]
        self.stdout.write(f"{outcomes['new']} new, {outcomes['updated']} updated, {outcomes['bad']} bad rows")
        if good and not no_embed:
            inline = settings.CELERY_TASK_ALWAYS_EAGER
            call_command("reindex_embeddings", sync=inline, stdout=self.stdout, stderr=self.stderr)
        if not good:
            raise CommandError("No row was imported.", returncode=1)
        if strict and outcomes["bad"]:
            raise CommandError(f"{outcomes['bad']} bad rows.", returncode=1)
