"""Shapes that users of other packages have reported in public trackers; each names its report."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest
from asgiref.sync import sync_to_async
from django.core import serializers
from django.core.files.storage import FileSystemStorage, storages
from django.db import IntegrityError, connection, connections, router, transaction
from django.db.models import Prefetch
from django.utils.functional import SimpleLazyObject
from psycopg import IsolationLevel

from django_visual_search import feedback, indexing, search
from django_visual_search.checks.database import check_extension
from django_visual_search.fields.registry import get_field
from tests.testshop.celery import app

from ..conftest import embed_all, picture, picture_file
from . import models
from .cases import Router, fill
from .models import Busy, Leaf, Middle, Named, Odd, Scoped, Tracked

pytestmark = pytest.mark.django_db

LABEL = "fieldshop.Named.embedding"


@pytest.fixture
def eager():
    """Run tasks in this process, as in a project without a broker."""
    app.set_default()
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def key_of(row):
    return type(row)._base_manager.values_list("embedding_key", flat=True).get(pk=row.pk)


class TestStorages:
    def test_a_file_that_is_deleted_once_it_is_replaced(self):
        """https://github.com/un1t/django-cleanup/issues/84"""
        made = fill(Named)
        old = made[0].image.name
        made[0].image = picture_file(30, "new.jpg")
        made[0].save()
        made[0].image.storage.delete(old)
        assert embed_all(LABEL).done == 1
        assert key_of(made[0]).endswith(made[0].image.name)

    def test_a_storage_that_overwrites(self):
        """https://github.com/codingjoe/django-stdimage/issues/206"""
        row = Busy(image=picture_file(0, "same.jpg"))
        row.save()
        embed_all("fieldshop.Busy.embedding")
        before = list(Busy.things.get().embedding)
        row.image = picture_file(1, "same.jpg")
        row.save()
        assert row.image.name == "busy/same.jpg"
        embed_all("fieldshop.Busy.embedding")
        assert list(Busy.things.get().embedding) != before

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_storage_that_overwrites_another_products_file(self, shared, eager, django_capture_on_commit_callbacks):
        """https://github.com/jschneier/django-storages/issues/50"""

        def create(seed):
            with django_capture_on_commit_callbacks(execute=True):
                if shared:
                    photo = models.Photo.objects.create(file=picture_file(seed, "same.jpg"))
                    models.Page.objects.create(photo=photo)
                else:
                    Busy(image=picture_file(seed, "same.jpg")).save()

        rows = models.PageCompanion.objects if shared else Busy.things
        create(0)
        before = list(rows.get().embedding)
        create(1)
        after = [list(vector) for vector in rows.values_list("embedding", flat=True)]
        assert after[0] == after[1] != before

    def test_a_storage_in_memory(self, settings):
        """https://github.com/openfun/joanie/issues/479"""
        settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
        made = fill(Named, 3)
        assert len(search.similar_to(made[0])) == 2
        assert not isinstance(storages["default"], FileSystemStorage)


class TestInstances:
    @pytest.mark.parametrize("way", ["similar_to", "record"])
    def test_a_lazy_product(self, way):
        """https://github.com/wagtail/wagtail/pull/11023"""
        made = fill(Named)
        lazy = SimpleLazyObject(lambda: made[0])
        if way == "similar_to":
            assert len(search.similar_to(lazy)) == 5
        else:
            assert feedback.record("purchase", lazy, results=search.similar_to(made[1]))

    def test_a_product_out_of_a_cache(self):
        """https://github.com/Suor/django-cacheops/issues/253"""
        made = fill(Named)
        cached = pickle.loads(pickle.dumps(Named.objects.get(pk=made[0].pk)))
        assert len(search.similar_to(cached)) == 5
        before = key_of(made[0])
        cached.state = "b"
        cached.save()
        assert key_of(made[0]) == before

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copied_product(self, copied):
        """https://github.com/django-commons/django-polymorphic/issues/203"""
        made = fill(Named)
        twin = copied(Named.objects.get(pk=made[0].pk))
        twin.pk = None
        twin._state.adding = True
        twin.save()
        assert twin.pk != made[0].pk
        assert list(Named.objects.get(pk=twin.pk).embedding) == list(Named.objects.get(pk=made[0].pk).embedding)
        assert not indexing.stale(get_field(LABEL)).exists()
        twin.image = picture_file(50)
        twin.save()
        assert indexing.stale(get_field(LABEL)).count() == 1

    def test_a_polymorphic_copy(self):
        """https://github.com/django-commons/django-polymorphic/issues/414"""
        shirt = models.Shirt.objects.create(name="s", image=picture_file(1))
        embed_all("fieldshop.Garment.embedding")
        twin = models.Shirt.objects.get(pk=shirt.pk)
        twin.pk = twin.id = twin.garment_ptr_id = None
        twin._state.adding = True
        twin.save()
        assert models.Shirt.objects.count() == 2
        assert search.similar_to(shirt)[0].similarity > 0.999

    def test_remembered_fields(self, django_assert_num_queries):
        """https://github.com/romgar/django-dirtyfields/pull/50"""
        fill(Tracked, name="a")
        whole = Tracked.objects.first()
        assert whole.changed() == []
        assert len(search.similar_to(whole)) == 5
        assert [hit.product.changed() for hit in search.similar_to(whole)] == [[]] * 5
        with django_assert_num_queries(1):
            part = Tracked.objects.only("name").first()
        part.name = "b"
        assert part.changed() == ["name"]
        part.save()
        assert not indexing.stale(get_field("fieldshop.Tracked.embedding")).exists()

    def test_a_refresh_of_some_fields(self):
        """https://github.com/romgar/django-dirtyfields/issues/154"""
        made = fill(Named)
        row = Named.objects.defer("embedding").get(pk=made[0].pk)
        row.refresh_from_db(fields=["embedding", "embedding_key"])
        row.save()
        assert not indexing.stale(get_field(LABEL)).exists()

    def test_update_or_create(self):
        """https://github.com/django-oauth/django-oauth-toolkit/issues/714"""
        made = fill(Named)
        row, created = Named.objects.update_or_create(pk=made[0].pk, defaults={"image": made[1].image.name})
        assert not created
        assert list(indexing.stale(get_field(LABEL)).values_list("pk", flat=True)) == [row.pk]
        assert embed_all(LABEL).done == 1

    def test_bulk_create_that_updates(self):
        """https://github.com/mathandpencil/django-bulk-sync/pull/27"""
        made = fill(Named)
        rows = [Named(pk=row.pk, image=made[-1].image.name) for row in made[:3]]
        Named.objects.bulk_create(rows, update_conflicts=True, unique_fields=["id"], update_fields=["image"])
        assert embed_all(LABEL).done == 3


class TestSerialised:
    @pytest.mark.parametrize("form", ["json", "xml", "jsonl"])
    def test_dump_and_load(self, form):
        """https://github.com/pgvector/pgvector-python/pull/12"""
        made = fill(Named, 3)
        dumped = serializers.serialize(form, Named.objects.all())
        vectors = dict(Named.objects.values_list("pk", "embedding"))
        Named.objects.all().delete()
        for row in serializers.deserialize(form, dumped):
            row.save()
        assert {pk: list(vector) for pk, vector in Named.objects.values_list("pk", "embedding")} == {
            pk: list(vector) for pk, vector in vectors.items()
        }
        assert not indexing.stale(get_field(LABEL)).exists()
        assert len(search.similar_to(made[0])) == 2

    def test_a_fixture_of_a_child(self):
        """https://github.com/django-commons/django-polymorphic/pull/792"""
        leaf = Leaf.objects.create(image=picture_file(0))
        dumped = serializers.serialize("json", [*models.Base.objects.all(), *Middle.objects.all(), *Leaf.objects.all()])
        leaf.delete()
        for row in serializers.deserialize("json", dumped):
            row.save()
        assert embed_all("fieldshop.Middle.embedding").done == 1

    def test_a_version_that_is_restored(self):
        """https://github.com/etianen/django-reversion/issues/891"""
        made = fill(Named, 3)
        version = serializers.serialize("json", [Named.objects.get(pk=made[0].pk)])
        made[0].image = picture_file(40)
        made[0].save()
        embed_all(LABEL)
        for row in serializers.deserialize("json", version):
            row.save()
        assert key_of(made[0]).endswith(Named.objects.get(pk=made[0].pk).image.name)
        assert not indexing.stale(get_field(LABEL)).exists()


class TestManagers:
    def test_one_that_fails_outside_of_a_scope(self, monkeypatch):
        """https://github.com/efdevcon/pretix-eth-payment-plugin/pull/90"""
        monkeypatch.setattr(models.ScopedManager, "active", True)
        made = [Scoped.objects.create(image=picture_file(i)) for i in range(4)]
        monkeypatch.setattr(models.ScopedManager, "active", False)
        assert embed_all("fieldshop.Scoped.embedding").done == 4
        assert not indexing.stale(get_field("fieldshop.Scoped.embedding")).exists()
        made[0].save()
        with pytest.raises(models.ScopeError):
            search.similar_to(made[0])
        monkeypatch.setattr(models.ScopedManager, "active", True)
        assert len(search.similar_to(made[0])) == 3

    def test_one_that_joins_and_counts(self, monkeypatch):
        """https://github.com/django-hijack/django-hijack/issues/520"""
        made = [Busy(image=picture_file(i, f"b{i}.jpg")) for i in range(4)]
        for row in made:
            row.save()
        made[0].tags.add(*[models.Tag.objects.create(name=str(i)) for i in range(3)])
        assert embed_all("fieldshop.Busy.embedding").done == 4
        indexing.mark_stale(get_field("fieldshop.Busy.embedding"))
        assert embed_all("fieldshop.Busy.embedding").done == 4
        hits = search.similar_to(made[1])
        assert {hit.product.n for hit in hits} == {0, 3}
        assert len(search.similar_to(made[1], within=Busy.things.filter(n=3))) == 1

    def test_prefetches_to_an_attribute(self):
        """https://github.com/dimagi/django-cte/issues/3"""
        made = [Busy(image=picture_file(i, f"b{i}.jpg")) for i in range(3)]
        for row in made:
            row.save()
            row.tags.add(models.Tag.objects.create(name="t"))
        embed_all("fieldshop.Busy.embedding")
        within = Busy.things.prefetch_related(Prefetch("tags", to_attr="named"))
        assert [hit.product.named[0].name for hit in search.similar_to(made[0], within=within)] == ["t", "t"]

    def test_texts_in_rows_of_their_own(self):
        """https://github.com/django-parler/django-parler/issues/141"""
        made = fill(Named)
        for row in made[1:]:
            for language in ("de", "de", "en"):
                models.TranslatedText.objects.create(master=row, language_code=language)
        hits = search.similar_to(made[0], within=Named.objects.filter(translations__language_code="de"))
        assert sorted(hit.product.pk for hit in hits) == [row.pk for row in made[1:]]

    @pytest.mark.parametrize("within", [Named.objects.raw("SELECT * FROM fieldshop_named"), [], "all"])
    def test_what_is_no_queryset(self, within):
        """https://github.com/chrisdev/django-pandas/issues/130"""
        made = fill(Named, 2)
        with pytest.raises(ValueError, match=r"must be a queryset of fieldshop\.Named"):
            search.similar_to(made[0], within=within)


class TestModels:
    @pytest.mark.parametrize("label", ["Odd", "OddCompanion"])
    def test_names_that_need_quotes_and_keys_of_the_database(self, label):
        """https://github.com/radiac/django-tagulous/issues/60"""
        made = [Odd.objects.create(image=picture_file(i)) for i in range(4)]
        assert embed_all(f"fieldshop.{label}.embedding").done == 4
        hits = search.similar_to(made[0], field=f"fieldshop.{label}.embedding")
        assert {hit.product.pk for hit in hits} == {row.pk for row in made[1:]}
        Odd.objects.filter(pk=made[0].pk).update(image="")
        assert embed_all(f"fieldshop.{label}.embedding").cleared == 1

    def test_three_tables_deep(self):
        """https://github.com/django-haystack/django-haystack/pull/492"""
        leaves = [Leaf.objects.create(image=picture_file(i)) for i in range(3)]
        middle = Middle.objects.create(image=picture_file(9))
        assert embed_all("fieldshop.Middle.embedding").done == 4
        assert {hit.product.pk for hit in search.similar_to(leaves[0])} == {leaves[1].pk, leaves[2].pk, middle.pk}
        assert len(search.similar_to(middle, within=Leaf.objects.all())) == 3
        leaves[0].image = picture_file(20)
        leaves[0].save()
        assert embed_all("fieldshop.Middle.embedding").done == 1
        leaves[0].delete()
        assert len(search.similar_to(middle)) == 2

    def test_a_view_of_the_database(self):
        """https://github.com/ChristopherRabotin/bungiesearch/issues/37"""
        made = [Named.objects.create(image=picture_file(i), key="xy"[i % 2]) for i in range(6)]
        assert embed_all("fieldshop.ListedCompanion.embedding").done == 3
        hits = search.similar_to(models.Listed.objects.get(pk=made[0].pk))
        assert {hit.product.pk for hit in hits} == {made[2].pk, made[4].pk}


class TestDatabases:
    @pytest.fixture
    def option(self, transactional_db):
        """Return a function that reconnects with an option."""
        before = dict(connection.settings_dict["OPTIONS"])

        def reconnect(**options):
            connection.close()
            connection.settings_dict["OPTIONS"] = {**before, **options}
            connection.__dict__.pop("isolation_level", None)

        yield reconnect
        connection.close()
        connection.settings_dict["OPTIONS"] = before
        connection.isolation_level = IsolationLevel.READ_COMMITTED

    def test_a_replica_that_can_only_be_read(self, option):
        """https://github.com/encode/django-rest-framework/issues/3370"""
        made = fill(Named)
        option(options="-c default_transaction_read_only=on")
        assert len(search.similar_to(made[0])) == 5
        assert search.search_by_image(picture(3), "fieldshop.Named")[0].product == made[3]
        option()

    @pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
    def test_isolation(self, option, level):
        """https://github.com/aaugustin/django-sequences/issues/22"""
        option(isolation_level=level)
        made = fill(Named)
        assert len(search.similar_to(made[0])) == 5
        with transaction.atomic():
            made[0].image.save("other.jpg", picture_file(20))
        assert embed_all(LABEL).done == 1
        feedback.record("purchase", made[1], results=search.similar_to(made[0]))
        feedback.aggregate()

    def test_the_extension_in_a_schema_of_its_own(self, option):
        """https://github.com/NateBJones-Projects/OB1/issues/319"""
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA extensions")
            cursor.execute("ALTER EXTENSION vector SET SCHEMA extensions")
        try:
            option(options="-c search_path=public,extensions")
            made = fill(Named)
            assert len(search.similar_to(made[0])) == 5
            assert check_extension("default") == []
        finally:
            option()
            with connection.cursor() as cursor:
                cursor.execute("ALTER EXTENSION vector SET SCHEMA public")
                cursor.execute("DROP SCHEMA extensions")

    @pytest.mark.django_db(databases=["default", "second"])
    def test_a_router_that_reads_at_random(self, monkeypatch):
        """https://github.com/yandex/django_replicated/issues/61"""

        class Random(Router):
            turn = 0

            def db_for_read(self, model, **hints):
                Random.turn += 1
                return ("default", "second")[Random.turn % 2]

            def db_for_write(self, model, **hints):
                return "default"

            def allow_relation(self, *objects, **hints):
                return True

        made = fill(Named)
        for row in Named.objects.all():
            row.save(using="second", force_insert=True)
        with connections["second"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM fieldshop_named WHERE embedding IS NOT NULL")
            assert cursor.fetchone() == (6,)
        monkeypatch.setattr(router, "routers", [Random("default")])
        for _ in range(4):
            assert len(search.similar_to(made[0])) == 5
            assert not indexing.stale(get_field(LABEL)).exists()
        made[0].image.save("other.jpg", picture_file(20))
        assert embed_all(LABEL).done == 1

    def test_a_transaction_that_is_rolled_back(self, django_capture_on_commit_callbacks):
        """https://github.com/letsrevel/revel-backend/issues/442"""

        def buy():
            row = Named.objects.create(image=picture_file(0))
            Named(pk=row.pk, image=picture_file(1)).save(force_insert=True)

        with django_capture_on_commit_callbacks() as callbacks, pytest.raises(IntegrityError):
            transaction.atomic(buy)()
        assert callbacks == []


@pytest.mark.django_db(transaction=True)
class TestAsync:
    def test_async_saves_send_their_work(self, eager):
        """https://github.com/etianen/django-reversion/issues/943"""

        async def visit():
            made = [await Named.objects.acreate(image=picture_file(i)) for i in range(3)]
            made[0].image = picture_file(9)
            await made[0].asave()
            hits = await sync_to_async(search.similar_to)(made[0])
            names = [hit.product.pk for hit in hits]
            await made[1].adelete()
            return made, names, len(await sync_to_async(search.similar_to)(made[0]))

        made, found, left = asyncio.run(visit())
        assert sorted(found) == [row.pk for row in made[1:] if row.pk] or len(found) == 2
        assert left == 1
        assert not indexing.stale(get_field(LABEL)).exists()
