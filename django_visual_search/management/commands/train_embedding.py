"""``manage.py train_embedding``: learn a head, or fine-tune the backbone, from the shop's own pictures."""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from ...extractors import ExtractorUnavailable
from ...fields.registry import get_field, only_field
from ...learning.finetune.options import FinetuneOptions
from ...learning.heads import Trained
from ...spaces.artifacts import cache_directory
from ...training import finetuning, heads
from ...training import heads as keeping
from ...training.heads import baseline
from ...training.supervision import gather, usual_labels
from ..progress import Progress

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
        parser.add_argument(
            "--method",
            choices=["head", "finetune"],
            default="head",
            help="A head on the backbone's features, in seconds; or the whole backbone and a head, in many minutes.",
        )
        parser.add_argument("--extractor", help="Learn for this extractor of the settings, instead of what serves now.")
        parser.add_argument("--name", help="Of the head; by default one is made.")
        parser.add_argument("--limit", type=int, default=MOST, help="At most so many pictures (default %(default)s).")
        parser.add_argument("--seed", type=int, default=0, help="Of what is held out (default %(default)s).")
        parser.add_argument(
            "--epochs", type=int, default=FinetuneOptions.epochs, help="Of fine-tuning, at most (default %(default)s)."
        )
        parser.add_argument("--seconds", type=float, help="Longest that each of the two runs of fine-tuning may take.")
        parser.add_argument(
            "--once",
            action="store_true",
            help="Let the backbone serve that was fine-tuned without the held-out pictures, instead of fine-tuning "
            "once more on every picture.",
        )
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
        method: str,
        epochs: int,
        seconds: float | None,
        once: bool,
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
        before = baseline(field, base.extractor.features_key, given)
        kind = paths[0] if paths else None
        summary = {"labels": paths, "pictures": len(given.features), "seed": seed, "given": given.describe()}
        dimensions = base.extractor.spec.dimensions
        self._say("vectors as they are now", time.monotonic() - started)
        if before.flattered:
            self.stdout.write(
                f"  note: {before.flattered} serves, and knows the pictures held out here: that flatters the figures "
                "'before'."
            )
            summary["flattered"] = before.flattered
        trained = heads.train(given, base, before, kind=kind, seed=seed, dimensions=dimensions, progress=self._tell)
        self._report("head", trained)
        if method == "finetune":
            plan = heads.plan_for(given, kind=kind, seed=seed, dimensions=dimensions)
            folder = cache_directory() / "training" / field.label
            work = finetuning.Finetuning(field, base, given, plan, folder, self._tell, show)
            wanted = FinetuneOptions(epochs=epochs, seconds=seconds, seed=seed)
            tuned = work.run(wanted, before, kind, again=not once)
            summary |= {"head_alone": keeping.figures(trained), "finetuning": tuned.measured.as_dict()}
            trained = tuned.trained
            self._report("fine-tuned, with a head", trained)
            if not dry_run:
                base = work.keep(tuned)
            shutil.rmtree(folder)
        if dry_run:
            self.stdout.write("Dry run: nothing was kept but features.")
            return
        row, new = keeping.keep_head(
            field,
            trained,
            base.extractor,
            alias=base.alias,
            baseline_key=before.key,
            summary=summary,
            name=name,
            **base.columns,
        )
        if not new:
            self.stdout.write(f"It is the same head as {row.name}, which is there already.")
            return
        self.stdout.write(f"Kept as {row.name} ({row.key}). To make it serve: manage.py switch_embedding {row.name}")

    def _tell(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _say(self, what: str, seconds: float) -> None:
        self.stdout.write(f"{what}: {seconds:.1f} s")

    def _report(self, what: str, trained: Trained) -> None:
        settings = trained.settings
        self._say(what, trained.seconds)
        self.stdout.write(
            f"  chosen: shrinkage {settings.shrinkage}, residual {settings.residual}, weights "
            f"{dict(settings.weights)}; {trained.learned.named} of {settings.dimensions} dimensions tell labels apart"
        )
        for outcome in trained.outcomes:
            self.stdout.write("  " + str(outcome).replace("\n", "\n  "))
        for note in trained.notes:
            self.stdout.write(f"  note: {note}")
