"""Databases of shops as they are before our app comes to them: their own migrations run once for each set of packages.

Entry function: ``copy_tables``. The migrations of Oscar or Wagtail take most of a minute, and change with its version.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import distributions

import psycopg
from psycopg import sql

LOCK = 812_402


def copy_tables(database: dict, name: str, migrate: Callable[[dict], None]) -> None:
    """Make a shop's database anew, with all that ``migrate`` puts into an empty one.

    ``database``: an entry of DATABASES, to which nobody is connected; ``name``: the shop's; ``migrate``: is called with
    the entry of an empty database, unless one of this server has been migrated with the same packages.
    """
    prefix = f"migrated_{name}_"
    template = prefix + _digest_of_packages()
    admin = {"host": database["HOST"], "port": database["PORT"], "user": database["USER"], "dbname": "postgres"}
    with psycopg.connect(**admin, autocommit=True) as session:
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # of other processes of this test run
        found = {row[0] for row in session.execute("SELECT datname FROM pg_database WHERE datname ^@ %s", [prefix])}
        if template not in found:
            for old in found:
                _run(session, "DROP DATABASE {}", old)
            _run(session, "CREATE DATABASE {}", f"{template}_unfinished")
            migrate({**database, "NAME": f"{template}_unfinished"})
            _run(session, "ALTER DATABASE {} RENAME TO {}", f"{template}_unfinished", template)
        _run(session, "DROP DATABASE {}", database["NAME"])
        _run(session, "CREATE DATABASE {} TEMPLATE {}", database["NAME"], template)


def _run(session: psycopg.Connection, statement: str, *names: str) -> None:
    session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _digest_of_packages() -> str:
    found = sorted(f"{one.metadata['Name']} {one.version}" for one in distributions())
    return hashlib.sha256(repr([sys.version, *found]).encode()).hexdigest()[:12]
