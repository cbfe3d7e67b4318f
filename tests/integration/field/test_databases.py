"""Rows of "In a stranger's shop" about databases: poolers, schemas, partitions, aliases, changed widths."""

import io
import threading
import time

import pytest
from django.core.management import call_command
from django.db import connection, connections, models, router
from django.db.migrations import AlterField, Migration
from django.db.migrations.state import ModelState, ProjectState
from pgvector.django import HalfVectorField, HnswIndex

from django_visual_search import search
from django_visual_search.checks.project import check_own_tables
from django_visual_search.db.extension import before_migrate
from django_visual_search.db.statements import ask
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import ann
from django_visual_search.indexing.runs import Outcome, Run
from django_visual_search.models import IndexingRun
from django_visual_search.search import planning

from ...conftest import embed_all, picture_file
from ...pooler import Pooler
from ...testshop.models import Product

pytestmark = pytest.mark.slow

LABEL = "testshop.Product.embedding"


def fill(count=6):
    made = [Product.objects.create(name=f"p{i}", image=picture_file(i)) for i in range(count)]
    embed_all()
    return made


@pytest.mark.django_db(transaction=True)
class TestRow17:
    """Transaction poolers: nothing is left in a session."""

    @pytest.fixture
    def pooler(self, monkeypatch):
        entry = connection.settings_dict
        path = f"{entry['HOST']}/.s.PGSQL.{entry['PORT'] or 5432}"
        connection.close()
        with Pooler(path, entry["USER"] or "postgres", entry["NAME"]) as pooler, monkeypatch.context() as patched:
            patched.setitem(entry, "HOST", "127.0.0.1")
            patched.setitem(entry, "PORT", pooler.port)
            yield pooler
            connection.close()

    def test_indexes_and_searches(self, pooler, settings, caplog):
        products = fill()
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LEASE_SECONDS": 0.1, "EXACT_ROWS": 0}
        field = get_field(LABEL)
        with ann.reindexing(field):
            ann.drop_indexes(field)
            assert ann.missing_indexes(field)
            assert ann.build_indexes(field) == ["product_embedding_hnsw"]
        assert "behind a connection pooler" in caplog.text
        for _ in range(5):
            hits = search.similar_to(Product.objects.get(pk=products[0].pk), limit=2)
            assert len(hits) == 2
            assert not hits.exact
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert pooler.ask_each(locks) == ["0"] * 3
        for name in ("maintenance_work_mem", "enable_sort", "lock_timeout"):
            sources = pooler.ask_each(f"SELECT source FROM pg_settings WHERE name = '{name}'")
            assert "session" not in sources, name

    def test_a_lost_index_is_built_by_one_of_two_sweeps(self, pooler, settings):
        fill()
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LEASE_SECONDS": 0.5}
        field = get_field(LABEL)
        with ann.reindexing(field):  # a command, which is then killed
            Run(field, IndexingRun.Kind.COMMAND).write(Outcome())
            ann.drop_indexes(field)
            assert ann.rebuild_lost(field) == []
        built = []
        time.sleep(0.6)  # the lease

        def sweep():
            built.append(ann.rebuild_lost(field))
            connections.close_all()

        threads = [threading.Thread(target=sweep) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(built) == [[], ["product_embedding_hnsw"]]

    def test_direct_connections_are_told_apart(self, db):
        assert not ann.is_pooled(connection)


@pytest.mark.django_db(transaction=True)
class TestRow10:
    """A changed width."""

    @pytest.mark.parametrize("backwards", [False, True])
    def test_the_migration_works(self, backwards):
        def shelf(dimensions):
            text = models.TextField(null=True)
            fields = [
                ("id", models.BigAutoField(primary_key=True)),
                ("note", text),
                ("own", HalfVectorField(dimensions=8)),
                ("embedding_key", text),
            ]
            fields += [("embedding", HalfVectorField(dimensions=dimensions, null=True))]
            index = HnswIndex(fields=["embedding"], name="shelf_hnsw", opclasses=["halfvec_cosine_ops"])
            state = ProjectState()
            state.add_model(ModelState("shelves", "Shelf", fields, {"indexes": [index]}))
            return state

        def operation(name, **options):
            return AlterField("shelf", name, HalfVectorField(**options))

        wide, migration = shelf(256), Migration("0002", "shelves")
        migration.operations = [
            operation("embedding", dimensions=128, null=True),
            operation("own", dimensions=8, null=True),
        ]
        plan = [(migration, False)]
        with connection.schema_editor() as editor:
            if backwards:
                wide = migration.mutate_state(wide)
            editor.create_model(wide.apps.get_model("shelves", "shelf"))
        try:
            model = wide.apps.get_model("shelves", "shelf")
            width = model._meta.get_field("embedding").dimensions
            model.objects.create(note="n", own=[1] * 8, embedding=[1] * width, embedding_key="x:a.jpg")
            before_migrate(using="default", plan=plan)
            with connection.schema_editor() as editor:
                state = shelf(256) if backwards else wide.clone()
                after = migration.unapply(state, editor) if backwards else migration.apply(state, editor)
            row = after.apps.get_model("shelves", "shelf").objects.get()
            assert [row.note, row.embedding, row.embedding_key] == ["n", None, None]
            assert len(row.own.to_list() if hasattr(row.own, "to_list") else row.own) == 8
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'embedding' AND "
                    "attrelid = 'shelves_shelf'::regclass"
                )
                assert cursor.fetchone() == (f"halfvec({256 if backwards else 128})",)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE shelves_shelf")


class Elsewhere:
    """A router that keeps this app's tables out of the catalogue's database."""

    def __init__(self, method):
        setattr(self, method, self.answer)
        self.method = method

    def answer(self, *args, **hints):
        if self.method == "allow_migrate":
            return False if args[1] == "django_visual_search" else None
        return "other" if args[0]._meta.app_label == "django_visual_search" else None


class TestRow12:
    """Databases and schemas."""

    @pytest.mark.parametrize("method", ["db_for_write", "allow_migrate"])
    def test_own_tables_elsewhere_are_reported(self, method, monkeypatch):
        fields = [get_field(LABEL)]
        assert check_own_tables(fields) == []
        monkeypatch.setattr(router, "routers", [Elsewhere(method)])
        [message] = check_own_tables(fields)
        assert message.id == "visual_search.E026"
        assert "in database 'default', and IndexingAttempt, " in message.msg

    @pytest.mark.django_db(transaction=True)
    def test_a_table_in_another_schema(self):
        fill()
        field, table = get_field(LABEL), Product._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA shelf; ALTER TABLE {table} SET SCHEMA shelf")
        Product._meta.db_table = f'shelf"."{table}'
        try:
            ann.drop_indexes(field)
            assert [name for name in ann.existing_indexes(field) if name == "product_embedding_hnsw"] == []
            assert ann.build_indexes(field) == ["product_embedding_hnsw"]
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shelf.product_embedding_hnsw'::regclass"
                )
            assert ann.build_indexes(field) == ["product_embedding_hnsw"]
            assert ann.missing_indexes(field) == []
        finally:
            Product._meta.db_table = table
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE shelf.{table} SET SCHEMA public; DROP SCHEMA shelf")

    @pytest.mark.django_db(transaction=True)
    def test_a_partitioned_table(self, monkeypatch):
        monkeypatch.setattr(ann, "REBUILD_ROWS", 2)
        field, table = get_field(LABEL), Product._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                f"ALTER TABLE {table} RENAME TO whole;"
                f"CREATE TABLE {table} (LIKE whole INCLUDING DEFAULTS) PARTITION BY RANGE (price);"
                f"CREATE TABLE cheap PARTITION OF {table} FOR VALUES FROM (0) TO (3);"
                f"CREATE TABLE dear PARTITION OF {table} FOR VALUES FROM (3) TO (1000);"
                f"CREATE INDEX partitioned_hnsw ON {table} USING hnsw (embedding halfvec_cosine_ops)"
            )
        index = ann.declared_indexes(field)[0]
        monkeypatch.setattr(index, "name", "partitioned_hnsw")
        try:
            for i in range(6):
                Product.objects.create(id=i + 1, name=f"p{i}", price=i, image=picture_file(i))
            out = io.StringIO()
            call_command("reindex_embeddings", LABEL, "--sync", stdout=out)
            assert "6 done" in out.getvalue()
            call_command("reindex_embeddings", LABEL, "--sync", "--force", stdout=out)
            assert ann.existing_indexes(field)["partitioned_hnsw"]
            planning.forget_facts()
            hits = search.similar_to(Product.objects.get(pk=1))
            assert {hit.product.pk for hit in hits} == {2, 3, 4, 5, 6}
            answers, _ = ask(connection, planning.facts_questions(field, connection, None))
            assert answers["facts"] == [(True, 6.0, 6.0)]
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE {table}; ALTER TABLE whole RENAME TO {table}")
