"""The ``vector`` extension: migrations create it, leave an existing one, or say what to ask for."""

import uuid
from io import StringIO

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper as SqliteWrapper
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql

from django_visual_search.checks import database as database_checks
from django_visual_search.db.extension import CreateVectorExtension, create_extension, extension_version

OTHER_SERVER = {"HOST": "127.0.0.1", "PORT": "5432", "USER": "postgres", "PASSWORD": ""}
"""A PostgreSQL without pgvector that lets ``postgres`` in; it is on some development machines only."""


def connect(settings, name="postgres"):
    return psycopg.connect(
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        password=settings["PASSWORD"] or None,
        dbname=name,
        autocommit=True,
        connect_timeout=3,
    )


@pytest.fixture
def other_database(django_db_blocker):
    """A function that makes an empty database on a server, as ``connections["other"]``; dropped after the test."""
    made = []

    def make(server, *, user=None, extension=False):
        name = f"other_{uuid.uuid4().hex[:12]}"
        with connect(server) as admin:
            if user:
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(user)))
            owner = sql.Identifier(user or server["USER"])
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), owner))
        made.append((server, name, user))
        if extension:
            with connect(server, name) as admin:
                admin.execute("CREATE EXTENSION vector")
        settings = {**connection.settings_dict, **server, "NAME": name, "TEST": {}}
        connections["other"] = DatabaseWrapper({**settings, "USER": user or server["USER"]}, alias="other")
        return connections["other"]

    with django_db_blocker.unblock():
        yield make
        for server, name, user in made:
            connections["other"].close()
            del connections["other"]
            with connect(server) as admin:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
                if user:
                    admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))


@pytest.fixture
def embedded():
    """The embedded server, as its superuser."""
    return {key: connection.settings_dict[key] for key in ("HOST", "PORT", "USER", "PASSWORD")}


@pytest.fixture
def without_pgvector():
    try:
        with connect(OTHER_SERVER) as admin:
            found = admin.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    except psycopg.OperationalError as e:
        pytest.skip(f"no PostgreSQL without pgvector here: {e}")
    if found:
        pytest.skip("the PostgreSQL on port 5432 has pgvector")
    return OTHER_SERVER


@pytest.fixture
def role():
    return f"role_{uuid.uuid4().hex[:12]}"


def migrate(database):
    executor = MigrationExecutor(database)
    executor.migrate([("django_visual_search", "0001_initial")])


def test_the_migration_creates_it(other_database, embedded):
    database = other_database(embedded)
    assert extension_version(database) is None
    assert database_checks.check_extension("other") == [], "migrate is still to come"
    migrate(database)
    assert extension_version(database) is not None
    assert database_checks.check_extension("other") == []
    create_extension(database)  # once more is no error


def test_the_migration_accepts_an_existing_one(other_database, embedded, role):
    database = other_database(embedded, user=role, extension=True)
    migrate(database)
    assert "django_visual_search_artifact" in database.introspection.table_names()


def advice(database, error):
    name = database.settings_dict["NAME"]
    return (
        f"The PostgreSQL extension 'vector' (pgvector, 0.8.4 or later) is not in database '{name}' and this user may "
        f"not or can't create it ({error}). Ask your database administrator to install pgvector on the server and to "
        "run, in that database: CREATE EXTENSION vector;  Then run migrate again."
    )


def test_a_user_without_the_right(other_database, embedded, role):
    database = other_database(embedded, user=role)
    with pytest.raises(ImproperlyConfigured) as caught:
        migrate(database)
    assert str(caught.value) == advice(database, 'permission denied to create extension "vector"')
    assert "django_visual_search_artifact" not in database.introspection.table_names()


def test_a_server_without_pgvector(other_database, without_pgvector):
    database = other_database(without_pgvector)
    with pytest.raises(ImproperlyConfigured) as caught:
        migrate(database)
    assert str(caught.value) == advice(database, 'extension "vector" is not available')
    (message,) = database_checks.check_extension("other")
    assert (message.id, message.msg) == (
        "visual_search.W003",
        "The extension 'vector' is not in database 'other'.",
    )
    assert message.hint == advice(database, "the server does not have it")


def test_one_that_was_dropped(other_database, embedded):
    database = other_database(embedded)
    migrate(database)
    with database.cursor() as cursor:
        cursor.execute("DROP EXTENSION vector")
    (message,) = database_checks.check_extension("other")
    assert message.hint == advice(database, "it is not there although migrate has run")


@pytest.mark.django_db
def test_undoing_the_migration_leaves_it():
    with connection.schema_editor() as editor:
        CreateVectorExtension().database_backwards("django_visual_search", editor, None, None)
    assert extension_version(connection) is not None


@pytest.mark.django_db
def test_sqlmigrate_shows_it():
    out = StringIO()
    call_command("sqlmigrate", "django_visual_search", "0001", stdout=out)
    assert "CREATE EXTENSION IF NOT EXISTS vector" in out.getvalue()


def test_other_databases_are_left_alone():
    settings = {**connection.settings_dict, "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    database = SqliteWrapper(settings, alias="other")
    create_extension(database)
    assert database.connection is None, "not even connected to"
