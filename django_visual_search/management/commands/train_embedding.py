"""``manage.py train_embedding``: learn a head, or fine-tune the backbone, on the shop's own pictures."""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from ...evaluation.catalogue import usual_labels
from ...extractors import ExtractorUnavailable
from ...fields.registry import get_field, only_field
from ...learning.finetune.options import FinetuneOptions
from ...learning.text import learn_text
from ...learning.train import TrainedHead
from ...spaces.extractors import cache_directory
from ...training.finetuning import Finetuning
from ...training.head import backbone_for, baseline, figures_table, keep_head, metrics_json, plan_for, train
from ...training.supervision import USUAL_LABELS, Supervision, gather
from ...training.switching import shortcoming
from ...training.text import gather_texts, keep_text_head
from .. import DatabaseCommand
from ..progress import Progress

PICTURE_LIMIT = 50_000


class Command(DatabaseCommand):
    help = (
        "Learn from the catalogue and from feedback which pictures belong together. The result is a candidate head: "
        "`switch_embedding` lets it serve."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "label", nargs="?", metavar="app.Model.field", help="Required where the project has several fields."
        )
        parser.add_argument(
            "--labels",
            help="Paths from the product to labels, such as category,brand: pictures with the same value are to find "
            "each other. The first is the most important. Default: category and brand where the product has them; "
            "'' for none.",
        )
        parser.add_argument(
            "--method",
            choices=["head", "finetune"],
            default="head",
            help="A head on the backbone's features, in seconds; or the whole backbone and a head, in many minutes.",
        )
        parser.add_argument("--extractor", help="Learn for this extractor of the settings instead of the serving one.")
        parser.add_argument("--name", help="Name of the head (default: made from the model, the method and a number).")
        parser.add_argument(
            "--limit", type=int, default=PICTURE_LIMIT, help="Use at most so many pictures (default %(default)s)."
        )
        parser.add_argument(
            "--seed", type=int, default=0, help="Seed that draws the held-out pictures (default %(default)s)."
        )
        parser.add_argument(
            "--epochs",
            type=int,
            default=FinetuneOptions.epochs,
            help="Fine-tune for at most so many epochs (default %(default)s).",
        )
        parser.add_argument("--seconds", type=float, help="Time limit of each of the two runs of fine-tuning.")
        parser.add_argument(
            "--once",
            action="store_true",
            help="Keep the backbone that was fine-tuned without the held-out pictures, instead of fine-tuning once "
            "more on every picture.",
        )
        parser.add_argument(
            "--text",
            action="store_true",
            help="Learn a text head instead, for searches by text in the space that serves now: from the fields in "
            "TEXT_FIELDS, or else the product's name, description, category and brand. It is used at once.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Measure, and keep nothing but features.")

    def handle(self, **options: Any) -> None:
        try:
            if options["text"]:
                self._train_text(**options)
            else:
                self._train(**options)
        except LookupError as e:
            raise CommandError(str(e.args[0])) from e
        except (ValueError, ImproperlyConfigured, ExtractorUnavailable) as e:
            raise CommandError(str(e)) from e
        finally:
            self._finish()

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
        if labels is None:
            paths = usual_labels(field.product_model, USUAL_LABELS)
        else:
            paths = [path.strip() for path in labels.split(",") if path.strip()]
        base = backbone_for(field, extractor)
        self.stdout.write(f"{field.label}: features of {base.extractor.features_key}")
        started = time.monotonic()
        given = gather(field, base.extractor, paths, most=limit, seed=seed, show=self._show, named=labels is not None)
        self._finish()
        self._write_seconds("features", time.monotonic() - started)
        for line in given.describe():
            self.stdout.write(f"  {line}")
        before = baseline(field, base.extractor, given)
        summary = {"labels": paths, "pictures": len(given.features), "seed": seed, "given": given.describe()}
        dimensions = base.extractor.spec.dimensions
        self._write_seconds("serving vectors", time.monotonic() - started)
        if before.flattered:
            self.stdout.write(
                f"  note: {before.flattered} serves and knows the held-out pictures: that flatters its figures."
            )
            summary["flattered"] = before.flattered
        plan = plan_for(given, seed=seed, dimensions=dimensions)
        trained = train(given, base, before, plan, self._write_now)
        metrics = self._write_figures("head", trained, given)
        if method == "finetune":
            folder = cache_directory() / "training" / field.label
            work = Finetuning(field, base, given, plan, folder, self._write_now, self._show)
            tuned = work.run(FinetuneOptions(epochs=epochs, seconds=seconds, seed=seed), before, again=not once)
            summary |= {"head_alone": metrics, "finetuning": tuned.measured.as_dict()}
            trained = tuned.trained
            metrics = self._write_figures("fine-tuned, with a head", trained, given)
            if not dry_run:
                base = work.keep(tuned)
            shutil.rmtree(folder)
        if dry_run:
            self.stdout.write("Dry run: nothing was kept but features.")
            return
        row, new = keep_head(
            field,
            trained,
            base.extractor,
            alias=base.alias,
            baseline_key=before.key,
            metrics=metrics,
            summary=summary,
            name=name,
            **base.columns,
        )
        if not new:
            self.stdout.write(f"The head equals {row.name}, which is kept already.")
            return
        self.stdout.write(f"Kept as {row.name} ({row.key}). To let it serve: manage.py switch_embedding {row.name}")

    def _train_text(self, *, label: str | None, limit: int, seed: int, dry_run: bool, **options: Any) -> None:
        field = get_field(label) if label else only_field()
        given = gather_texts(field, limit)
        self.stdout.write(
            f"{field.label}: {len(given.products)} vectors of {given.space_key}, texts from {given.source}"
        )
        trained = learn_text(given.texts, given.vectors, given.products, seed)
        self._write_seconds("text head", trained.seconds)
        self.stdout.write(f"  {trained.figures}")
        if dry_run:
            self.stdout.write("Dry run: nothing was kept.")
            return
        row = keep_text_head(field, given, trained, seed)
        self.stdout.write(f"Kept ({len(row.data) / 1e6:.1f} MB): searches by text use it within 10 seconds.")

    _progress: Progress | None = None

    def _show(self, count: int, total: int) -> None:
        if self._progress is None:
            self._progress = Progress(self.stderr if self.stderr.isatty() else self.stdout, total)
        self._progress.total = total
        self._progress.show(count)

    def _finish(self) -> None:
        if self._progress is not None:
            self._progress.finish()

    def _write_now(self, text: str) -> None:
        self._finish()
        self.stdout.write(text)
        self.stdout.flush()

    def _write_seconds(self, what: str, seconds: float) -> None:
        self.stdout.write(f"{what}: {seconds:.1f} s")

    def _write_figures(self, what: str, trained: TrainedHead, given: Supervision) -> list[dict[str, Any]]:
        """Print the chosen settings and the figures; return the figures."""
        settings = trained.settings
        self._write_seconds(what, trained.seconds)
        self.stdout.write(
            f"  chosen: shrinkage {settings.shrinkage}, residual {settings.residual}, weights "
            f"{dict(settings.weights)}; {trained.learned.named} of {settings.dimensions} dimensions tell labels apart"
        )
        metrics = metrics_json(trained, given.several)
        for line in figures_table(metrics):
            self.stdout.write(line)
        for line in trained.calibration.describe() if trained.calibration else ():
            self.stdout.write(f"  {line}")
        for note in trained.notes:
            self.stdout.write(f"  note: {note}")
        why = shortcoming(metrics) if metrics else "was not measured: nothing could be held out."
        self.stdout.write(f"  The {what} {why}" if why else f"  The {what} is better on held-out pictures.")
        return metrics
