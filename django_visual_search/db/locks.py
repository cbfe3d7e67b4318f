"""Change many rows without ever waiting for a lock while holding another, so that no deadlock can come of it.

Entry functions: ``change_free`` leaves rows alone that someone else has locked, ``change_all`` changes them afterwards,
one by one. PostgreSQL ends either side of a deadlock, and it may be the shop's order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.db.models import QuerySet

from .rows import all_rows

PAGE = 1000

Change = Callable[[QuerySet[Any]], Any]


def change_free(rows: QuerySet[Any], change: Change, *, page: int = PAGE) -> list[Any]:
    """Change rows in the order of their keys, page by page; return the keys of those that someone else has locked.

    ``change`` gets a queryset of rows that are locked for it.
    """
    left: list[Any] = []
    keys = list(rows.order_by("pk").values_list("pk", flat=True)[:page])
    while keys:
        with transaction.atomic(using=rows.db):
            # Of this table alone: "OF" takes no table of another schema.
            own = all_rows(rows.model, rows.db).filter(pk__in=keys).order_by("pk")
            found = own.select_for_update(skip_locked=True, no_key=True)
            free = list(found.values_list("pk", flat=True))
            if free:
                change(rows.filter(pk__in=free))
        left += [key for key in keys if key not in set(free)]
        keys = list(rows.filter(pk__gt=keys[-1]).order_by("pk").values_list("pk", flat=True)[:page])
    return left


def change_all(rows: QuerySet[Any], change: Change, *, page: int = PAGE) -> None:
    """Change rows as ``change_free``, and then each of those that are left once its lock is free.

    Inside a transaction that is after its end, which alone gives back what is locked.
    """
    left = change_free(rows, change, page=page)
    if left and connections[rows.db].in_atomic_block:
        transaction.on_commit(partial(_change_one_by_one, rows, change, left), using=rows.db, robust=True)
    else:
        _change_one_by_one(rows, change, left)


def _change_one_by_one(rows: QuerySet[Any], change: Change, keys: list[Any]) -> None:
    for key in keys:
        change(rows.filter(pk=key))
