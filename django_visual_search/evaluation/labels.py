"""What queries are told apart by, such as categories, in the words of people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from .catalogue import Catalogue

NAMES = ("name", "title")
USUAL = "category"


def usual_labels(model: type[Model]) -> list[str]:
    """``["category"]`` where the product has one, else nothing."""
    try:
        model._meta.get_field(USUAL)
    except FieldDoesNotExist:
        return []
    return [USUAL]


def paths_of(model: type[Model], labels: Sequence[str]) -> list[str]:
    """The paths to read for these labels: each one, and for a relation the name of what it leads to."""
    return [path for label in labels for path in (label, _named(model, label)) if path]


def by_name(model: type[Model], catalogue: Catalogue, labels: Sequence[str]) -> dict[str, list[str]]:
    """By label: a name a picture, "" for none. Two things of one name stay two."""
    return {label: _names(catalogue, label, _named(model, label)) for label in labels}


def _names(catalogue: Catalogue, label: str, named: str | None) -> list[str]:
    keys = catalogue.labels[label]
    if named is None:
        return keys
    names = catalogue.labels[named]
    meant: dict[str, set[str]] = defaultdict(set)
    for key, name in zip(keys, names, strict=True):
        meant[name].add(key)
    return [
        name if name and len(meant[name]) == 1 else (f"{name} ({key})".strip() if key else "")
        for key, name in zip(keys, names, strict=True)
    ]


def _named(model: type[Model], path: str) -> str | None:
    """The path to the name of what ``path`` leads to; None where it leads to no row, or to one without a name."""
    at: Any = model
    for part in path.split("__"):
        try:
            at = at._meta.get_field(part)
        except (FieldDoesNotExist, AttributeError):
            return None  # read_catalogue says what is wrong with it
        at = at.related_model or at
    if not hasattr(at, "_meta"):  # a column
        return None
    names = {field.name for field in at._meta.get_fields()}
    return next((f"{path}__{name}" for name in NAMES if name in names), None)
