"""A savepoint that costs no round trip: what fails inside leaves the caller's transaction as it was."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from django.db import Error, connections, transaction


@contextlib.contextmanager
def savepoint_along(using: str) -> Iterator[None]:
    """For reading: as ``transaction.atomic()`` inside a transaction, and nothing outside of one.

    SAVEPOINT goes along with the first statement, and its release with the transaction's end. A database error is
    raised again, after going back to the savepoint; where that is not possible, ``connection.needs_rollback`` is set.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        yield
        return
    if connection.settings_dict["OPTIONS"].get("server_side_binding"):  # one statement to a message
        with transaction.atomic(using=using):
            yield
        return
    name, sent = f"visual_search_{uuid.uuid4().hex}", False

    def along(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        nonlocal sent
        if sent or many:
            return execute(sql, params, many, context)
        sent = True
        result = execute(f"SAVEPOINT {name};\n{sql}", params, many, context)
        context["cursor"].nextset()  # from the savepoint's result, which has no rows, to the statement's
        return result

    try:
        with connection.execute_wrapper(along):
            yield
    except Error:
        if sent:
            try:
                connection.savepoint_rollback(name)
            except Error:
                connection.needs_rollback = True
        raise
