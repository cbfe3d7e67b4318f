"""(e) Changing price and stock of rows that carry a vector, on the product and on a companion."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

from django.db import connection

from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import ann
from tests.vectors import clustered, fill

from .models import Bare, BareEmbedding, Full, Full70, Full85, Product
from .report import Line, seconds

ROUNDS = 8
UPDATES = 250
"""A round changes so many rows, one at a time, chosen at random: sales, not a price list."""

SIDES: dict[str, tuple[type[Product], int | None]] = {
    "on the product": (Full, None),
    "on the product, fillfactor 85": (Full85, 85),
    "on the product, fillfactor 70": (Full70, 70),
    "on a companion": (Bare, None),
}


def measure(rows: int) -> list[Line]:
    vectors, _ = clustered(rows, 256)
    for model, fillfactor in SIDES.values():
        _fill(model, fillfactor, vectors)
    lines = []
    for way, change in (("save()", _save), ("QuerySet.update()", _update)):
        before = {name: _counts(model) for name, (model, _) in SIDES.items()}
        spent = _in_turn(rows, change)
        for name, (model, _) in SIDES.items():
            total, heap_only = (now - then for now, then in zip(_counts(model), before[name], strict=True))
            if total != ROUNDS * UPDATES:
                raise RuntimeError(f"PostgreSQL counted {total} updates of {model.__name__}, not {ROUNDS * UPDATES}")
            lines.append(
                Line(
                    "e",
                    f"{way}, {name} / on a companion",
                    f"{spent['on a companion'] / spent[name]:.2f}",
                    detail=f"{UPDATES / spent[name]:.0f} rows/s, {heap_only / total:.0%} heap-only; {rows} rows",
                )
            )
    return lines


def _in_turn(rows: int, change: Callable[[type[Product], int], None]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for turn in range(ROUNDS):
        keys = random.Random(turn).choices(range(1, rows + 1), k=UPDATES)
        for name, (model, _) in SIDES.items():
            taken[name].append(seconds(lambda model=model, keys=keys: [change(model, key) for key in keys]))
    return {name: statistics.median(values) for name, values in taken.items()}


def _save(model: type[Product], key: int) -> None:
    product = model.objects.get(pk=key)
    product.price += 1
    product.stock -= 1
    product.save()


def _update(model: type[Product], key: int) -> None:
    model.objects.filter(pk=key).update(price=key, stock=7)


def _fill(model: type[Product], fillfactor: int | None, vectors) -> None:
    if fillfactor:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {model._meta.db_table} SET (fillfactor = {fillfactor})")
    images = [f"{i}.jpg" for i in range(len(vectors))]
    if model is Bare:
        Bare.objects.bulk_create(Bare(pk=i + 1, image=image) for i, image in enumerate(images))
        fill(get_field("benchmarks.BareEmbedding"), vectors)
        tables = [Bare, BareEmbedding]
    else:
        count = len(images)
        columns = {"name": ["A product whose name is about as long as names are"] * count, "image": images}
        columns |= {"price": [0] * count, "stock": [0] * count}
        field = get_field(f"benchmarks.{model.__name__}")
        fill(field, vectors, columns=columns)
        ann.analyze(field)
        tables = [model]
    for table in tables:
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE) {table._meta.db_table}")


def _counts(model: type[Product]) -> tuple[int, int]:
    """Updates of the table so far, and those that left its indexes alone."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s", [model._meta.db_table]
        )
        return cursor.fetchone()
