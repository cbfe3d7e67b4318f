"""``manage.py findability_report``: the products that searches miss, and why."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from ...db.rows import all_rows
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...fields.registry import fields_of_product, get_field
from ...findability import (
    CHECK_LIMIT,
    Reason,
    check,
    check_is_outdated,
    count_unfindable,
    last_check,
    product_models,
    unfindable_products,
)
from ...findability.report import Unfindable
from .. import DatabaseCommand
from ..progress import Progress

MOST_ROWS = 10_000
"""Products for each reason in the JSON."""


class Command(DatabaseCommand):
    help = (
        "List products that searches miss, and why: no picture, refused, quarantined, not embedded, drowned by "
        "look-alikes, or with the picture of another product. The last two come from a check, stored for the admin."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("label", nargs="?", metavar="app.Model.field", help="Only this field; all by default.")
        parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="Write JSON to the output or a file.")
        parser.add_argument(
            "--limit",
            type=int,
            default=CHECK_LIMIT,
            help="Products to check for look-alikes, drawn at random; 0 for all (default %(default)s).",
        )
        parser.add_argument("--seed", type=int, help="The same seed draws the same products; by default they differ.")
        parser.add_argument("--stored", action="store_true", help="Show the last check's findings, without a new one.")
        parser.add_argument(
            "--rows", type=int, default=10, help="Products to print for each reason (default %(default)s)."
        )

    def handle(self, *, label: str | None, **options: Any) -> None:
        if options["limit"] < 0 or options["rows"] < 0:
            raise CommandError("--limit and --rows must be 0 or more.")
        try:
            field = get_field(label) if label else None
        except LookupError as e:
            raise CommandError(str(e.args[0])) from e
        models = [field.product_model] if field else product_models()
        if not models:
            raise CommandError("No model has an EmbeddingField. Add one, as the quickstart shows, and migrate.")
        reports: list[dict[str, Any]] = []
        plain = options["json"] != "-"
        for model in models:
            fields = [field] if field else fields_of_product(model)
            checks = [] if options["stored"] else [self._check(one, options) for one in fields]
            if options["stored"] and plain:
                self._write_last_checks(fields)
            reports.append(self._report(model, field, checks, options, plain))
        if options["json"]:
            text = json.dumps({"models": reports}, indent=2, ensure_ascii=False)
            if plain:
                Path(options["json"]).write_text(text + "\n", encoding="utf-8")
                self.stdout.write(f"JSON: {options['json']}")
            else:
                self.stdout.write(text)

    def _check(self, field: EmbeddingField, options: dict[str, Any]) -> dict[str, Any]:
        progress: list[Progress] = []

        def show(count: int, total: int) -> None:
            if not progress:
                progress.append(Progress(self.stderr, total, f"products ({field.label})"))
            progress[0].show(count)

        try:
            found = check(field, limit=options["limit"] or None, seed=options["seed"], show=show)
        except (ExtractorUnavailable, ImproperlyConfigured) as e:
            raise CommandError(f"{field.label} can't be checked here: {e} --stored shows the last check.") from e
        for one in progress:
            one.finish()
        return {"label": field.label, **found.__dict__}

    def _write_last_checks(self, fields: list[EmbeddingField]) -> None:
        for field in fields:
            run = last_check(field)
            if run is None:
                self.stdout.write(f"{field.label} was never checked for look-alikes and duplicates.")
            elif check_is_outdated(field, run):
                self.stdout.write(
                    f"{field.label} was switched to other vectors since its last check for look-alikes and duplicates."
                )

    def _report(
        self,
        model: Any,
        field: EmbeddingField | None,
        checks: list[dict[str, Any]],
        options: dict[str, Any],
        plain: bool,
    ) -> dict[str, Any]:
        label = field.label if field else None
        counts = count_unfindable(model, label)
        name = model._meta.label
        if plain:
            self.stdout.write(f"{name}: {model._default_manager.count()} products")
            for one in checks:
                self.stdout.write(
                    f"  {one['label']}: checked {one['products']} of {one['of']} products with a vector; pictures are "
                    f"the same from a cosine of {one['threshold']:.4f}"
                )
        found = {}
        for reason, count in counts.items():
            most = MOST_ROWS if options["json"] else options["rows"]
            found[reason] = unfindable_products(model, reason, 0, min(count, most), label=label)
            if plain:
                self.stdout.write(f"  {count:6} {reason.label}" + (f": {reason.advice}" if count else ""))
                self._print(model, found[reason], count, options["rows"])
        return {
            "model": name,
            "field": label,
            "checks": checks,
            "counts": {reason.value: count for reason, count in counts.items()},
            "products": [_row_json(row) for reason in Reason for row in found[reason]],
        }

    def _print(self, model: Any, found: list[Unfindable], count: int, shown: int) -> None:
        some = list(islice(found, shown))
        keys = {key for row in some for key in (row.product, row.other) if key}
        own = [field.name for field in fields_of_product(model) if issubclass(model, field.model)]
        names = {str(one.pk): str(one) for one in all_rows(model).defer(*own).filter(pk__in=keys)}
        for row in some:
            text = f"         {row.product} {names.get(row.product, '')}: {row.text}"
            if row.other:
                near = "" if row.similarity is None else f", cosine {row.similarity:.4f}"
                text += f" ({row.other} {names.get(row.other, '')}{near})"
            self.stdout.write(text)
        if some and count > len(some):
            self.stdout.write(f"         and {count - len(some)} more")


def _row_json(row: Unfindable) -> dict[str, Any]:
    return {
        "product": row.product,
        "reason": row.reason.value,
        "text": row.text,
        "other": row.other or None,
        "similarity": row.similarity,
        "checked_at": row.checked_at.isoformat() if row.checked_at else None,
    }
