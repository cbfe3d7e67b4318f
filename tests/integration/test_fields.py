"""EmbeddingField and EmbeddingIndex: what migrations see, the sibling column, and what ``save()`` writes."""

import copy
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.migrations.state import ModelState
from django.test.utils import isolate_apps
from pgvector import HalfVector
from pgvector.django import HalfVectorField, HnswIndex

from django_visual_search import indexing
from django_visual_search.fields import EmbeddingField, EmbeddingIndex
from django_visual_search.fields.embedding import EmbeddingKeyField
from django_visual_search.fields.registry import get_field

from ..conftest import embed_all, picture_file
from ..startup import STARTUP
from ..testshop.models import (
    DIMENSIONS,
    Article,
    ArticleImage,
    ArticleImageEmbedding,
    FeaturedProduct,
    Poster,
    Product,
    Shoe,
)

ROOT = Path(__file__).resolve().parents[2]


class TestDeconstruct:
    def test_to_migrations_it_is_pgvectors_field(self):
        field = Product._meta.get_field("embedding")
        name, path, args, kwargs = field.deconstruct()
        assert (name, list(args)) == ("embedding", [])
        assert path == "pgvector.django.halfvec.HalfVectorField"
        assert kwargs == {"dimensions": DIMENSIONS, "null": True, "blank": True, "editable": False}

    def test_migrations_omit_its_own_options(self):
        plain = EmbeddingField(source="image", dimensions=8)
        other = EmbeddingField(source="a__b", product="c", dimensions=8, metric="ip", extractor="shoes")
        assert plain.deconstruct() == other.deconstruct()

    def test_migrations_keep_the_options_of_any_field(self):
        field = EmbeddingField("vector", source="image", dimensions=8, db_column="v", help_text="x")
        kwargs = field.deconstruct()[3]
        assert kwargs["verbose_name"] == "vector"
        assert kwargs["db_column"] == "v"
        assert kwargs["help_text"] == "x"

    def test_the_key_column_is_a_text_field(self):
        field = Product._meta.get_field("embedding_key")
        name, path, args, kwargs = field.deconstruct()
        assert (name, path, args) == ("embedding_key", "django.db.models.TextField", [])
        assert kwargs == {"null": True, "blank": True, "editable": False, "default": None}

    def test_clone(self):
        clone = Product._meta.get_field("embedding").clone()
        assert isinstance(clone, EmbeddingField)
        assert clone.dimensions == DIMENSIONS

    def test_a_models_state_rebuilds_without_this_app(self):
        state = ModelState.from_model(Product)
        assert type(state.fields["embedding_key"]).__name__ == "EmbeddingKeyField"
        _, path, args, kwargs = state.fields["embedding"].deconstruct()
        assert path == f"{HalfVectorField.__module__}.{HalfVectorField.__qualname__}"
        assert isinstance(HalfVectorField(*args, **kwargs), models.Field)


class TestIndex:
    OURS = EmbeddingIndex(fields=["embedding"], name="x")
    PGVECTORS = HnswIndex(fields=["embedding"], name="x", opclasses=["halfvec_cosine_ops"], ef_construction=128)

    def test_equal_to_pgvectors_both_ways(self):
        assert self.OURS == self.PGVECTORS
        assert self.PGVECTORS == self.OURS

    @pytest.mark.parametrize(
        "other",
        [
            HnswIndex(fields=["embedding"], name="x", opclasses=["halfvec_l2_ops"], ef_construction=128),
            HnswIndex(fields=["embedding"], name="y", opclasses=["halfvec_cosine_ops"], ef_construction=128),
            HnswIndex(fields=["embedding"], name="x", opclasses=["halfvec_cosine_ops"], ef_construction=128, m=32),
            HnswIndex(fields=["embedding"], name="x", opclasses=["halfvec_cosine_ops"]),
            models.Index(fields=["embedding"], name="x"),
            "x",
        ],
    )
    def test_different_both_ways(self, other):
        ours = self.OURS
        assert ours != other
        assert other != ours

    def test_deconstruct(self):
        path, args, kwargs = EmbeddingIndex(fields=["v"], name="x", metric="l2", m=8, ef_construction=99).deconstruct()
        assert path == "pgvector.django.indexes.HnswIndex"
        assert args == ()
        assert kwargs == {"fields": ["v"], "name": "x", "opclasses": ["halfvec_l2_ops"], "m": 8, "ef_construction": 99}

    def test_an_explicit_operator_class_wins(self):
        index = EmbeddingIndex(fields=["v"], name="x", opclasses=["halfvec_l1_ops"])
        assert index.opclasses == ["halfvec_l1_ops"]

    def test_a_clone_in_an_abstract_parent_takes_a_name(self):
        index = EmbeddingIndex(fields=["embedding"], name="%(class)s_hnsw")
        assert index.clone() == index


SETTINGS = """
SECRET_KEY = "x"
DATABASES = {"default": {"ENGINE": "django.db.backends.dummy"}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django_visual_search", "copied"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
VISUAL_SEARCH = {"EXTRACTORS": {"default": {"BACKEND": "tests.testshop.extractors.ColourExtractor"}}}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a copy of the test shop, which has no migrations yet."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "copied" / "migrations").mkdir(parents=True)
    for name in ("__init__.py", "migrations/__init__.py"):
        (folder / "copied" / name).touch()
    shutil.copy(ROOT / "tests" / "testshop" / "models.py", folder / "copied")
    (folder / "copied_settings.py").write_text(SETTINGS)
    return folder


class TestMigrations:
    """``makemigrations`` in a process of its own."""

    def manage(self, shop, *arguments):
        environment = {
            "DJANGO_SETTINGS_MODULE": "copied_settings",
            "PYTHONPATH": f"{STARTUP}:{shop}:{ROOT}",
            "PATH": "",
        }
        command = [sys.executable, "-m", "django", *arguments, "--skip-checks"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def test_migrations_import_only_pgvector_and_django_and_are_stable(self, shop):
        made = self.manage(shop, "makemigrations", "copied")
        assert made.returncode == 0, made.stderr
        text = (shop / "copied" / "migrations" / "0001_initial.py").read_text()
        imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
        assert imported <= {"django", "pgvector", "uuid"}
        assert "visual_search" not in text
        assert text.count("pgvector.django.halfvec.HalfVectorField(") == 6
        assert text.count("pgvector.django.indexes.HnswIndex(") == 6
        assert len(re.findall(r"'embedding_key', models\.TextField\(", text)) == 6
        again = self.manage(shop, "makemigrations", "--check", "--dry-run")
        assert (again.returncode, again.stdout) == (0, "No changes detected\n"), again.stderr

    def test_our_models_are_migrated(self, shop):
        done = self.manage(shop, "makemigrations", "--check", "--dry-run", "django_visual_search")
        assert done.returncode == 0, done.stdout


class TestColumns:
    @pytest.mark.parametrize("model", [Product, Shoe, Poster, ArticleImageEmbedding])
    def test_each_model_has_both_once(self, model):
        names = [field.name for field in model._meta.local_fields]
        assert names.count("embedding") == names.count("embedding_key") == 1
        assert isinstance(model._meta.get_field("embedding_key"), EmbeddingKeyField)

    @isolate_apps("tests.testshop")
    def test_every_child_of_an_abstract_model_has_both(self):
        class Base(models.Model):
            image = models.ImageField()
            embedding = EmbeddingField(source="image", dimensions=8)

            class Meta:
                abstract = True
                app_label = "testshop"

        class Middle(Base):
            class Meta(Base.Meta):
                abstract = True

        children = [
            type(n, (Middle,), {"__module__": __name__, "Meta": type("Meta", (), {"app_label": "testshop"})})
            for n in ("First", "Second")
        ]
        for child in children:
            assert [field.name for field in child._meta.fields] == ["id", "image", "embedding", "embedding_key"]
            assert child._meta.get_field("embedding").model is child

    @isolate_apps("tests.testshop")
    def test_a_multi_table_child_does_not_repeat_its_parents(self):
        class Parent(models.Model):
            image = models.ImageField()
            embedding = EmbeddingField(source="image", dimensions=8)

            class Meta:
                app_label = "testshop"

        class Child(Parent):
            class Meta:
                app_label = "testshop"

        assert [field.name for field in Child._meta.local_fields] == ["parent_ptr"]

    @isolate_apps("tests.testshop")
    def test_two_fields_have_two_keys(self):
        class Twice(models.Model):
            image = models.ImageField()
            fine = EmbeddingField(source="image", dimensions=8)
            coarse = EmbeddingField(source="image", dimensions=4, extractor="coarse")

            class Meta:
                app_label = "testshop"

        names = [field.name for field in Twice._meta.fields]
        assert sorted(names) == ["coarse", "coarse_key", "fine", "fine_key", "id", "image"]
        assert Twice._meta.get_field("coarse").label == "testshop.Twice.coarse"

    def test_not_in_forms(self):
        assert not Product._meta.get_field("embedding").editable
        assert not Product._meta.get_field("embedding_key").editable


class TestPaths:
    def test_on_the_product(self):
        field = get_field("testshop.Product.embedding")
        assert field.link is None
        assert field.target_model is field.product_model is Product
        assert field.image_field is Product._meta.get_field("image")

    def test_on_a_companion(self):
        field = get_field("testshop.ArticleImageEmbedding.embedding")
        assert field.link is ArticleImageEmbedding._meta.get_field("image")
        assert field.target_model is ArticleImage
        assert field.image_field is ArticleImage._meta.get_field("original")
        assert field.product_model is Article


@pytest.mark.django_db
class TestSaving:
    @pytest.fixture
    def product(self):
        Product.objects.create(name="shoe", image=picture_file(1))
        embed_all()
        return Product.objects.get()

    def vector(self, **filters):
        return Product.objects.values_list("embedding", "embedding_key").get(**filters)

    def test_a_save_never_writes_an_older_vector_back(self, product):
        worker = Product.objects.filter(pk=product.pk)
        worker.update(embedding=[1.0] * DIMENSIONS, embedding_key="newer:x")
        product.embedding, product.embedding_key = None, None
        product.name = "boot"
        product.save()
        vector, key = self.vector()
        assert (vector, key) == ([1.0] * DIMENSIONS, "newer:x")
        assert Product.objects.get().name == "boot"

    def test_nor_does_a_save_after_refresh_pickle_or_copy(self, product):
        product.refresh_from_db()
        Product.objects.update(embedding=None, embedding_key=None)
        product.full_clean(exclude=["category", "tags"])
        product.save()
        pickle.loads(pickle.dumps(product)).save()
        copy.deepcopy(product).save()
        assert self.vector() == (None, None)

    def test_nor_does_a_save_with_deferred_fields(self, product):
        product = Product.objects.defer("name").get()
        Product.objects.update(embedding=None, embedding_key=None)
        product.save()
        assert self.vector() == (None, None)

    def test_an_instance_of_nothing_but_the_vector_is_written(self, product):
        product = Product.objects.only("embedding", "embedding_key").get()
        product.embedding = None
        product.save(update_fields=["embedding", "embedding_key"])
        assert self.vector() == (None, None)

    @isolate_apps("tests.testshop")
    def test_nor_does_a_save_with_a_deferred_generated_field(self):
        class Parcel(models.Model):
            image = models.ImageField()
            side = models.IntegerField(default=1)
            area = models.GeneratedField(
                expression=models.F("side") * 2, output_field=models.IntegerField(), db_persist=True
            )
            embedding = EmbeddingField(source="image", dimensions=4)

            class Meta:
                app_label = "testshop"

        with connection.schema_editor() as editor:
            editor.create_model(Parcel)
        Parcel.objects.create(image="a.jpg", embedding=[1.0] * 4, embedding_key="old:a.jpg")
        for names in (["side"], ["area"], ["side", "area"]):
            parcel = Parcel.objects.defer(*names).get()
            Parcel.objects.update(embedding=[0.5] * 4, embedding_key="new:a.jpg")
            parcel.save()
            assert Parcel.objects.values_list("embedding", "embedding_key").get() == ([0.5] * 4, "new:a.jpg")

    @pytest.mark.parametrize("kind", [list, np.array, HalfVector])
    def test_an_assigned_vector_is_written_with_its_key(self, product, kind):
        product.embedding, product.embedding_key = kind([0.5] * DIMENSIONS), "own:x"
        product.save()
        assert self.vector() == ([0.5] * DIMENSIONS, "own:x")

    def test_an_assigned_vector_may_keep_its_key(self, product):
        key = product.embedding_key
        product.embedding = [0.5] * DIMENSIONS
        product.save()
        assert self.vector() == ([0.5] * DIMENSIONS, key)
        assert not indexing.stale(get_field("testshop.Product.embedding")).exists()

    def test_a_vector_loaded_for_another_row_is_an_assigned_one(self, product):
        other = Product.objects.create(name="boot", image=picture_file(2))
        embed_all()
        other = Product.objects.get(pk=other.pk)
        product.embedding = other.embedding
        product.save()
        assert self.vector(pk=product.pk) == (other.embedding, product.embedding_key)
        Product.objects.update(embedding=[1.0] * DIMENSIONS)
        for loaded in (other, Product.objects.get(pk=product.pk)):
            loaded.refresh_from_db()
            Product.objects.update(embedding=[0.5] * DIMENSIONS)
            loaded.save()
            assert self.vector(pk=loaded.pk)[0] == [0.5] * DIMENSIONS, "its own was not assigned"

    def test_none_assigned_to_the_vector_clears_both(self, product):
        product.embedding = None
        product.save(update_fields=["name"])
        assert self.vector()[0] is not None
        product.save()
        assert self.vector() == (None, None)
        assert product.embedding_key is None

    def test_an_assigned_vector_needs_a_key(self, product):
        product.embedding, product.embedding_key = [0.5] * DIMENSIONS, None
        refused = pytest.raises(ValueError, match=r"testshop\.Product\.embedding was assigned without embedding_key")
        with refused, transaction.atomic():
            product.save()
        product = Product.objects.only("name").get()
        product.embedding = [0.5] * DIMENSIONS
        with refused:
            product.save()

    def test_update_fields_that_name_both_write_both(self, product):
        Product.objects.update(embedding=None, embedding_key=None)
        product.save(update_fields=["embedding", "embedding_key"])
        assert self.vector() == (product.embedding, product.embedding_key)

    def test_update_fields_may_clear_both(self, product):
        product.embedding = None
        product.save(update_fields=["embedding", "embedding_key"])
        assert self.vector() == (None, None)
        assert product.embedding_key is None

    @pytest.mark.parametrize("name", ["embedding", "embedding_key"])
    def test_update_fields_that_name_one_are_refused(self, product, name):
        with pytest.raises(ValueError, match="update_fields must name both 'embedding' and 'embedding_key', or neith"):
            product.save(update_fields=["name", name])

    def test_update_fields_that_name_neither_write_neither(self, product):
        before = self.vector()
        product.embedding, product.embedding_key = [0.5] * DIMENSIONS, "own:x"
        product.save(update_fields=["name"])
        assert self.vector() == before
        product.save()
        assert self.vector() == ([0.5] * DIMENSIONS, "own:x")

    def test_update_or_create_keeps_both(self, product):
        before = self.vector()
        Product.objects.update_or_create(pk=product.pk, defaults={"price": 3})
        assert self.vector() == before
        assert Product.objects.get().price == 3

    def test_a_child_of_two_tables_and_a_proxy(self):
        for model in (Shoe, FeaturedProduct):
            row = model.objects.create(image=picture_file(1))
            row.embedding, row.embedding_key = [0.5] * DIMENSIONS, "own:x"
            row.save()
            row = model.objects.get(pk=row.pk)
            assert (row.embedding, row.embedding_key) == ([0.5] * DIMENSIONS, "own:x")
            row.embedding = None
            row.save(update_fields=["embedding", "embedding_key"])
            assert model.objects.filter(pk=row.pk, embedding=None, embedding_key=None).exists()

    def test_an_instance_stays_usable_after_a_save(self, product):
        product.save()
        assert product.embedding is not None
        product.save()
        product.full_clean(exclude=["category", "tags"])
        assert self.vector()[0] is not None

    def test_deferred_fields_are_not_fetched(self, product, django_assert_num_queries):
        product = Product.objects.only("name", "image").get()
        with django_assert_num_queries(1):
            product.save()
        assert self.vector()[0] is not None

    def test_the_copy_idiom_copies_the_vector_of_the_same_picture(self, product):
        before = self.vector()
        product.pk = None
        product._state.adding = True
        product.save()
        assert Product.objects.count() == 2
        vector, key = self.vector(pk=product.pk)
        assert (vector, key) == (before[0], before[1])

    def test_bulk_create_writes_what_it_is_given(self, product):
        copies = [
            Product(name=n, image=product.image.name, embedding=product.embedding, embedding_key="k:x") for n in "ab"
        ]
        Product.objects.bulk_create(copies)
        assert Product.objects.filter(embedding_key="k:x", embedding__isnull=False).count() == 2

    def test_dumpdata_and_loaddata(self, product, tmp_path):
        before = self.vector()
        dump = tmp_path / "dump.json"
        call_command("dumpdata", "testshop.Product", output=str(dump), verbosity=0)
        Product.objects.all().delete()
        call_command("loaddata", str(dump), verbosity=0)
        vector, key = self.vector()
        assert key == before[1]
        assert vector == before[0]

    def test_loaddata_over_existing_rows_puts_picture_vector_and_key_back_together(self, product, tmp_path):
        before = self.vector()
        dump = tmp_path / "dump.json"
        call_command("dumpdata", "testshop.Product", output=str(dump), verbosity=0)
        Product.objects.update(image="newer.jpg", embedding=[1.0] * DIMENSIONS, embedding_key="newer:newer.jpg")
        call_command("loaddata", str(dump), verbosity=0)
        assert self.vector() == before
        assert not indexing.stale(get_field("testshop.Product.embedding")).exists()

    @pytest.mark.parametrize("kind", ["json", "jsonl", "xml", "python"])
    def test_serializers(self, product, kind):
        text = serializers.serialize(kind, Product.objects.all())
        (restored,) = serializers.deserialize(kind, text)
        # A deserialised vector is text or a list until it is saved.
        Product.objects.all().delete()
        restored.save()
        assert self.vector()[0] == product.embedding
