"""``manage.py evaluate_search``: measure how well the shop's search finds, on the shop's own pictures."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError
from django.utils import timezone

from ... import __version__
from ...db.rows import all_rows
from ...evaluation import evaluate_field
from ...evaluation.catalogue import usual_labels
from ...evaluation.figures import Evaluation, Floor, parse_floor
from ...evaluation.report import missing_matplotlib, write_report
from ...evaluation.served import QUERY_LIMIT, ROBUSTNESS_PICTURES, SEARCHES
from ...evaluation.text import report_lines
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...fields.registry import embedding_fields, get_field
from .. import DatabaseCommand
from ..progress import Progress

REPORT = "visual-search-report.html"


class Command(DatabaseCommand):
    help = (
        "Measure the present search on the shop's own pictures: recall, mAP, MRR and nDCG, by category too, its "
        "robustness, the recall of its index, and the time of a search. Changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("label", nargs="?", metavar="app.Model.field", help="Only this field (default: all).")
        parser.add_argument(
            "--labels",
            metavar="category,…",
            help="Paths from the product; figures are given by each of their values (default: category, if any).",
        )
        parser.add_argument(
            "--within",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="Only products with this value; repeatable.",
        )
        parser.add_argument(
            "--limit",
            type=int,
            default=QUERY_LIMIT,
            help="Pictures to search by, drawn at random (default %(default)s).",
        )
        parser.add_argument(
            "--robustness-pictures",
            type=int,
            default=ROBUSTNESS_PICTURES,
            help="Pictures to alter in every way, the slowest step (default %(default)s; 0 for none).",
        )
        parser.add_argument(
            "--searches",
            type=int,
            default=SEARCHES,
            help="Searches to time and to compare with exact ones (default %(default)s).",
        )
        parser.add_argument("--seed", type=int, default=0, help="Seed of all draws (default %(default)s).")
        parser.add_argument(
            "--report", metavar="DIR|FILE.html", help=f"Write a report with plots, one HTML file (DIR: {REPORT})."
        )
        parser.add_argument("--json", metavar="FILE", help="Write all figures as JSON.")
        parser.add_argument(
            "--fail-under",
            action="append",
            default=[],
            metavar="R@1=0.6",
            help="Exit with 1 if a figure is lower, of the first task or of a named one: 'altered views:R@1=0.6'. "
            "Repeatable.",
        )

    def handle(self, *, label: str | None, **options: Any) -> None:
        labels = [name.strip() for name in (options["labels"] or "").split(",") if name.strip()]
        for name, least in (("limit", 1), ("searches", 1), ("robustness_pictures", 0)):
            if options[name] < least:
                raise CommandError(f"--{name.replace('_', '-')} must be at least {least}.")
        try:
            fields = [get_field(label)] if label else embedding_fields()
            named = labels or [name for field in fields for name in usual_labels(field.product_model)]
            floors = [parse_floor(text, named) for text in options["fail_under"]]
        except (LookupError, ValueError) as e:
            raise CommandError(str(e.args[0])) from e
        if not fields:
            raise CommandError("No model has an EmbeddingField. Add one, as the README shows, and migrate.")
        report = _report_path(options["report"])
        if report is not None and (problem := missing_matplotlib()):
            raise CommandError(problem)
        for path in (report, Path(options["json"]) if options["json"] else None):
            if path is not None and not path.absolute().parent.is_dir():
                raise CommandError(f"There is no folder {path.absolute().parent} to write {path.name} into.")
        found = self._evaluate(fields, labels, bool(label), options)
        if options["json"]:
            _write_json(Path(options["json"]), found)
            self.stdout.write(f"Figures: {options['json']}")
        if report is not None:
            write_report(report, found, timezone.now())
            self.stdout.write(f"Report: {report}")
        self._check(floors, found)

    def _evaluate(
        self, fields: list[EmbeddingField], labels: list[str], named: bool, options: dict[str, Any]
    ) -> list[Evaluation]:
        found = []
        for field in fields:
            try:
                evaluation = evaluate_field(
                    field,
                    labels=labels or usual_labels(field.product_model),
                    limit=options["limit"],
                    seed=options["seed"],
                    within=_filtered_products(field, options["within"]),
                    robustness_pictures=options["robustness_pictures"],
                    searches=options["searches"],
                    start=self._start,
                )
            except ValueError as e:
                if named or len(fields) == 1:
                    raise CommandError(str(e)) from e
                self.stderr.write(str(e))  # other fields may have pictures
                continue
            except (LookupError, ExtractorUnavailable, ImproperlyConfigured) as e:
                raise CommandError(str(e.args[0] if isinstance(e, LookupError) else e)) from e
            finally:
                self._finish()
            self.stdout.write("\n" + "\n".join(report_lines(evaluation)) + "\n")
            found.append(evaluation)
        if not found:
            raise CommandError("Nothing could be measured; see the reasons above.")
        return found

    def _check(self, floors: list[Floor], found: list[Evaluation]) -> None:
        problems = [problem for one in found for floor in floors if (problem := floor.problem(one))]
        if problems:
            raise CommandError("\n".join(problems), returncode=1)
        if floors:
            self.stdout.write(f"Floors met: {', '.join(map(str, floors))}.")

    _running: Progress | None = None

    def _start(self, name: str, total: int) -> Callable[[int], None]:
        self._finish()
        self._running = Progress(self.stderr, total, f"pictures ({name})")
        return self._running.show

    def _finish(self) -> None:
        if self._running is not None:
            self._running.finish()
        self._running = None


def _report_path(text: str | None) -> Path | None:
    """Return the file to write; a name that doesn't end in .html is a folder, made if missing."""
    if text is None:
        return None
    path = Path(text)
    if path.suffix.lower() in (".html", ".htm") and not path.is_dir():
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CommandError(f"--report: the folder {path} can't be made: {e}") from e
    return path / REPORT


def _filtered_products(field: EmbeddingField, conditions: list[str]) -> Any:
    """Return the products that meet all conditions; None without any condition."""
    if not conditions:
        return None
    products = all_rows(field.product_model)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise CommandError(f"--within takes FIELD=VALUE, such as category__name=Hats, not {condition!r}.")
        try:
            products = products.filter(**{name: value})
        except (FieldError, ValidationError, ValueError, TypeError) as e:
            raise CommandError(f"--within {condition}: {e}") from e
    return products


def _write_json(path: Path, found: list[Evaluation]) -> None:
    data = {
        "made_by": f"django-visual-search {__version__}",
        "made_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "fields": [evaluation.as_json() for evaluation in found],
    }
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
