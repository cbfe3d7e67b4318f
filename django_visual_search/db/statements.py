"""SQL statements: several in one round trip, and answers that this process remembers for some seconds.

Entry functions: ``execute_together``, and ``ask``, which sends what is not remembered. A *memory* keeps answers by
connection, database and schema. What a transaction that has written reads may be rolled back, so it is used and not
remembered.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import QuerySet

Statement = tuple[str, tuple[Any, ...]]
Answer = list[tuple[Any, ...]]


def compile_query(queryset: QuerySet[Any], using: str) -> Statement:
    """Return the SELECT of a queryset. Raises EmptyResultSet where Django knows that nothing matches."""
    sql, params = queryset.query.get_compiler(using).as_sql()
    return sql, tuple(params)


def execute_together(connection: Any, statements: list[Statement]) -> list[Answer]:
    """Run the statements in order and return each one's rows.

    PostgreSQL runs statements sent as one message in one transaction, which is what lets ``set_config(..., true)``
    reach from one to the next without BEGIN and COMMIT. With server-side binding a message holds one statement, so
    there it's a transaction.
    """
    if connection.settings_dict["OPTIONS"].get("server_side_binding"):
        with transaction.atomic(using=connection.alias):
            return [_run_statements(connection, [statement])[0] for statement in statements]
    return _run_statements(connection, statements)


def _run_statements(connection: Any, statements: list[Statement]) -> list[Answer]:
    sql = ";\n".join(sql for sql, _ in statements)
    with connection.cursor() as cursor:
        cursor.execute(sql, tuple(param for _, params in statements for param in params))
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall())
    return results


def halfvec_text(vector: Any) -> str:
    """Return a vector as a halfvec literal; five digits name every half-precision number exactly."""
    numbers = np.asarray(vector, np.float16).tolist()
    return f"[{','.join(['%.5g'] * len(numbers))}]" % tuple(numbers)


MOST_BYTES = 4 * 2**20
ENTRY_BYTES = 300
"""Bytes of an entry, beside its answer."""

# PostgreSQL gives a transaction its id with its first write.
HAS_NOT_WRITTEN: Statement = ("SELECT pg_current_xact_id_if_assigned() IS NULL", ())


def cache_key(connection: Any) -> tuple[str, str, str]:
    """Return what identifies this connection's tables: alias, database and schema (as of django-tenants)."""
    return connection.alias, str(connection.settings_dict["NAME"]), str(getattr(connection, "schema_name", ""))


@dataclass(frozen=True)
class _Entry:
    answer: Answer
    size: int
    at: float
    took: float


class Memory:
    """Answers, each for ``seconds``; beyond ``most_bytes`` the least recently used ones go.

    ``times``: an answer is also kept that many times as long as the database took to give it.
    """

    def __init__(self, seconds: float, *, times: float = 0.0, most_bytes: int = MOST_BYTES) -> None:
        self.seconds = seconds
        self.times = times
        self.most_bytes = most_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, connection: Any, statement: Statement, *, at_any_age: bool = False) -> Answer | None:
        """Return the statement's rows, or None where they are not remembered; ``at_any_age``: however old."""
        key = _entry_key(connection, statement)
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            if not at_any_age and time.monotonic() - entry.at >= max(self.seconds, self.times * entry.took):
                return None
            self._kept.move_to_end(key)
            return entry.answer

    def put(self, connection: Any, statement: Statement, answer: Answer, took: float = 0.0) -> None:
        """Remember the statement's rows from now on; ``took``: seconds."""
        key = _entry_key(connection, statement)
        entry = _Entry(answer, ENTRY_BYTES + len(repr(answer)), time.monotonic(), took)
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept[key] = entry
            self.bytes += entry.size - (before.size if before else 0)
            while self.bytes > self.most_bytes:
                _, oldest = self._kept.popitem(last=False)
                self.bytes -= oldest.size

    def forget(self) -> None:
        """Ask the database again."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0


def ask(connection: Any, questions: dict[str, tuple[Memory | None, Statement]]) -> tuple[dict[str, Answer], bool]:
    """Return the rows of each statement, by name, and whether any of them was sent.

    A statement is sent unless its memory has the answer; all that are go in one message.
    """
    answers = {}
    for name, (memory, statement) in questions.items():
        if memory is not None and (answer := memory.get(connection, statement)) is not None:
            answers[name] = answer
    missing = [name for name in questions if name not in answers]
    if not missing:
        return answers, False
    statements = [questions[name][1] for name in missing]
    in_transaction = connection.in_atomic_block or not connection.get_autocommit()
    if in_transaction:
        statements.append(HAS_NOT_WRITTEN)
    begun = time.monotonic()
    rows = execute_together(connection, statements)
    took = time.monotonic() - begun
    may_remember = not in_transaction or rows.pop()[0][0]
    for name, answer in zip(missing, rows, strict=True):
        answers[name] = answer
        memory, statement = questions[name]
        if memory is not None and may_remember:
            memory.put(connection, statement, answer, took)
    return answers, True


def _entry_key(connection: Any, statement: Statement) -> tuple[Any, ...]:
    # By a digest of its text: parameters need not be hashable, and may be many.
    digest = hashlib.blake2b(repr(statement).encode(errors="surrogatepass"), digest_size=16).digest()
    return (*cache_key(connection), digest)
