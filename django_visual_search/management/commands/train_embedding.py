"""``manage.py train_embedding``: learn a head, or fine-tune the backbone, from the shop's own pictures."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from ...extractors import ExtractorUnavailable
from ...learning.heads import Trained
from ...progress import Progress
from ...registry import get_field, only_field
from ...training import heads, keeping
from ...training.supervision import Supervision, gather, usual_labels

MOST = 50_000


class Command(BaseCommand):
    help = (
        "Learn from the catalogue and from feedback which pictures belong together. The result is a candidate: "
        "`switch_embedding` makes it serve."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "label", nargs="?", metavar="app.Model.field", help="Needed where there are several fields."
        )
        parser.add_argument(
            "--labels",
            help="Paths from the product to what it should be told apart by, such as category,brand. The first says "
            "what the right kind is. By default category and brand where the product has them; '' for none.",
        )
        parser.add_argument("--extractor", help="Learn for this extractor of the settings, instead of what serves now.")
        parser.add_argument("--name", help="Of the head; by default one is made.")
        parser.add_argument("--limit", type=int, default=MOST, help="At most so many pictures (default %(default)s).")
        parser.add_argument("--seed", type=int, default=0, help="Of what is held out (default %(default)s).")
        parser.add_argument("--dry-run", action="store_true", help="Measure, and keep nothing but features.")

    def handle(self, **options: Any) -> None:
        try:
            self._train(**options)
        except LookupError as e:
            raise CommandError(str(e.args[0])) from e
        except (ValueError, ImproperlyConfigured, ExtractorUnavailable) as e:
            raise CommandError(str(e)) from e

    def _train(
        self,
        *,
        label: str | None,
        labels: str | None,
        extractor: str | None,
        name: str | None,
        limit: int,
        seed: int,
        dry_run: bool,
        **options: Any,
    ) -> None:
        field = get_field(label) if label else only_field()
        paths = usual_labels(field) if labels is None else [path.strip() for path in labels.split(",") if path.strip()]
        base = heads.base_of(field, extractor)
        self.stdout.write(f"{field.label}: features of {base.extractor.features_key}")
        started = time.monotonic()
        progress = Progress(self.stderr if self.stderr.isatty() else self.stdout, 0)

        def show(count: int, total: int) -> None:
            progress.total = total
            progress.show(count)

        given = gather(field, base.extractor, paths, most=limit, seed=seed, show=show)
        self._say("features", time.monotonic() - started)
        for line in given.describe():
            self.stdout.write(f"  {line}")
        before, key = heads.vectors_now(field, base, given)
        trained = heads.train(
            given,
            base,
            before,
            kind=paths[0] if paths else None,
            seed=seed,
            dimensions=base.extractor.spec.dimensions,
            progress=self.stdout.write,
        )
        self._say("training", trained.seconds)
        self._report(given, trained)
        if dry_run:
            self.stdout.write("Dry run: the head was not kept.")
            return
        summary = {"labels": paths, "pictures": len(given.features), "seed": seed, "given": given.describe()}
        row = keeping.keep_head(
            field,
            trained,
            base.extractor,
            alias=base.alias,
            baseline_key=key,
            summary=summary,
            name=name,
            **base.columns,
        )
        self.stdout.write(f"Kept as {row.name} ({row.key}). To make it serve: manage.py switch_embedding {row.name}")

    def _say(self, what: str, seconds: float) -> None:
        self.stdout.write(f"{what}: {seconds:.1f} s")

    def _report(self, given: Supervision, trained: Trained) -> None:
        settings = trained.settings
        self.stdout.write(
            f"chosen: shrinkage {settings.shrinkage}, residual {settings.residual}, weights {dict(settings.weights)}; "
            f"{trained.learned.named} of {settings.dimensions} dimensions tell labels apart"
        )
        for outcome in trained.outcomes:
            self.stdout.write(str(outcome))
        for note in trained.notes:
            self.stdout.write(f"note: {note}")
