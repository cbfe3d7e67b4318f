"""The checks of extractors, databases, broker and Pillow: exact messages, and hints that say what to write."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from celery import Celery, current_app
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connection, connections, models
from django.db.backends.sqlite3.base import DatabaseWrapper as SqliteWrapper
from django.test.utils import isolate_apps
from django.utils import timezone

from django_visual_search.checks import checks_table
from django_visual_search.checks import database as database_checks
from django_visual_search.checks import extractors as extractor_checks
from django_visual_search.checks import project as ours
from django_visual_search.checks import settings as settings_checks
from django_visual_search.checks.__init__ import CHECKS
from django_visual_search.checks.products import check_handle_cache, check_storefront
from django_visual_search.conf import SETTINGS
from django_visual_search.extractors import ExtractorSpec
from django_visual_search.fields import EmbeddingField
from django_visual_search.fields.registry import embedding_fields, get_field
from django_visual_search.models import ServingSpace
from django_visual_search.spaces import live
from django_visual_search.spaces.extractors import DatabaseStore

from ..heads import EXTRACTORS, LABEL, make_head
from ..testshop.extractors import ColourExtractor
from ..testshop.models import DIMENSIONS, Product

COLOUR = {"BACKEND": "tests.testshop.extractors.ColourExtractor"}


class NeedsFile(ColourExtractor):
    """A backend that needs a model from the store."""

    def missing(self):
        return None if self.artifacts.get("model") else "Put the model into the store."


class NeedsRuntime(ColourExtractor):
    def missing(self):
        return "Install the runtime."


class Refusing(ColourExtractor):
    def __init__(self, **kwargs):
        raise ValueError("size must be positive")


class Failing(ColourExtractor):
    @property
    def spec(self):
        return ExtractorSpec(key=self.nothing, dimensions=1, input_size=1)


def backend(cls):
    return {"EXTRACTORS": {"default": {"BACKEND": f"{__name__}.{cls.__name__}"}}}


def error(number, message, hint, obj=None):
    return checks.Error(message, hint=hint, obj=obj, id=f"visual_search.E{number:03}")


def warning(number, message, hint, obj=None):
    return checks.Warning(message, hint=hint, obj=obj, id=f"visual_search.W{number:03}")


@pytest.fixture(autouse=True)
def celery():
    """The settings of a Celery app without a broker, the current app during the test."""
    before = current_app._get_current_object()
    app = Celery("checks")
    app.set_current()
    yield app.conf
    before.set_current()


@pytest.fixture
def product_field():
    return get_field("testshop.Product.embedding")


@pytest.mark.django_db  # Django 6 asks the databases in every check
def test_this_project_is_silent():
    call_command("check", fail_level="INFO")
    call_command("check", tags=["visual_search"], fail_level="INFO")


@pytest.mark.django_db
def test_this_project_is_silent_about_its_database():
    call_command("check", databases=["default"], fail_level="INFO")


def test_every_id_is_declared_and_used():
    folder = Path(ours.__file__).parent
    used = {setting.check for setting in SETTINGS.values()}
    for path in [*folder.glob("*.py"), folder.parent / "fields" / "checks.py", *folder.parent.glob("contrib/*/*.py")]:
        used |= set(re.findall(r'problem\(\s*"([EW]\d+)"', path.read_text()))
    assert used == set(CHECKS)
    assert [row[0] for row in checks_table()] == sorted(CHECKS)
    assert all(sentence.endswith(".") for _, sentence in checks_table())


class TestKeys:
    def test_sound(self, settings):
        settings.VISUAL_SEARCH = {"QUEUE": "pictures"}
        assert settings_checks.check_keys() == []

    def test_no_setting_at_all(self, settings):
        del settings.VISUAL_SEARCH
        assert settings_checks.check_keys() == []
        assert settings_checks.check_visible() == []

    def test_not_a_dictionary(self, settings):
        settings.VISUAL_SEARCH = ["QUEUE"]
        hint = "Write VISUAL_SEARCH = {...}; the documentation lists its keys."
        expected = [error(9, "VISUAL_SEARCH is a list, not a dictionary.", hint)]
        assert settings_checks.check_keys() == expected
        assert ours.check_project() == expected

    def test_a_typing_error(self, settings):
        settings.VISUAL_SEARCH = {"QUEU": "pictures"}
        assert settings_checks.check_keys() == [
            error(9, "VISUAL_SEARCH has the unknown key 'QUEU'.", "Did you mean 'QUEUE'?")
        ]
        with pytest.raises(CommandError, match=r"visual_search\.E009"):
            call_command("check")

    def test_an_unknown_key(self, settings):
        settings.VISUAL_SEARCH = {"COLOURS": 3}
        (message,) = settings_checks.check_keys()
        assert message.msg == "VISUAL_SEARCH has the unknown key 'COLOURS'."
        assert message.hint.startswith("The keys are EXTRACTORS, VISIBLE, THUMBNAIL, CARD, QUEUE, ")

    def test_dictionaries_inside(self, settings):
        settings.VISUAL_SEARCH = {"EXTRACTORS": [], "VISIBLE": "shop.Product"}
        assert settings_checks.check_keys() == [
            error(
                9,
                "VISUAL_SEARCH['EXTRACTORS'] is []: it is a list, not a dictionary.",
                "Write {'default': {'BACKEND': 'path.to.Extractor', 'OPTIONS': {...}}}. "
                "Extractors by alias: the dotted path of a class, and the arguments it is constructed with.",
            ),
            error(
                9,
                "VISUAL_SEARCH['VISIBLE'] is 'shop.Product': it is a str, not a dictionary.",
                "Write {'app.Model': 'path.to.function'}. " + SETTINGS["VISIBLE"].sentence,
            ),
        ]


def visible_products(request):
    return Product.objects.filter(is_published=True)


NOT_CALLABLE = 3


class TestVisible:
    LABEL_HINT = "Write the product's model as 'app.Model'."
    PATH_HINT = (
        "Give the dotted path of a function that takes the request and returns a queryset of the products, or the name "
        "of a method of the model's manager."
    )

    @pytest.mark.parametrize("value", [f"{__name__}.visible_products", visible_products, "all", "none"])
    def test_sound(self, settings, value):
        settings.VISUAL_SEARCH = {"VISIBLE": {"testshop.Product": value}}
        assert settings_checks.check_visible() == []

    @pytest.mark.parametrize("label", ["testshop.Nothing", "nowhere.Product", "Product", "a.b.c", 5])
    def test_no_such_model(self, settings, label):
        settings.VISUAL_SEARCH = {"VISIBLE": {label: visible_products}}
        message = f"VISUAL_SEARCH['VISIBLE'] has {label!r}, which is not an installed model."
        assert ours.check_visible() == [error(13, message, self.LABEL_HINT)]

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            (f"{__name__}.NOT_CALLABLE", "it is not callable"),
            (7, "it is neither a function, nor its dotted path, nor the name of a manager's method"),
            ("nowhere", "the managers of testshop.Product have no method of that name"),
            ("nowhere.products", "ModuleNotFoundError: No module named 'nowhere'"),
            ("", "the managers of testshop.Product have no method of that name"),
        ],
    )
    def test_no_such_callable(self, settings, path, problem):
        settings.VISUAL_SEARCH = {"VISIBLE": {"testshop.Product": path}}
        message = f"VISUAL_SEARCH['VISIBLE']['testshop.Product'] is {path!r}: {problem}."
        assert settings_checks.check_visible() == [error(14, message, self.PATH_HINT)]

    def test_a_module_that_does_not_compile(self, settings, tmp_path, monkeypatch):
        (tmp_path / "broken_selectors.py").write_text("def products(:\n")
        monkeypatch.syspath_prepend(tmp_path)
        settings.VISUAL_SEARCH = {"VISIBLE": {"testshop.Product": "broken_selectors.products"}}
        (message,) = settings_checks.check_visible()
        assert "SyntaxError" in message.msg
        assert message.id == "visual_search.E014"


class TestExtractor:
    HINT = (
        "Write VISUAL_SEARCH['EXTRACTORS']['default'] = {'BACKEND': 'path.to.Extractor', 'OPTIONS': {...}}, "
        "or another extractor= on the field."
    )

    @pytest.mark.parametrize(
        ("extractors", "problem"),
        [
            ({}, "There is no extractor 'default' in VISUAL_SEARCH['EXTRACTORS']; there are: none."),
            (
                {"other": COLOUR},
                "There is no extractor 'default' in VISUAL_SEARCH['EXTRACTORS']; there are: other.",
            ),
            (
                {"default": {}},
                "VISUAL_SEARCH['EXTRACTORS']['default']['BACKEND'] must be the dotted path of an Extractor class: ",
            ),
            (
                {"default": {"BACKEND": "nowhere.Extractor"}},
                "VISUAL_SEARCH['EXTRACTORS']['default']['BACKEND'] must be the dotted path of an Extractor class: ",
            ),
            (
                {"default": {"BACKEND": f"{__name__}.Refusing"}},
                "VISUAL_SEARCH['EXTRACTORS']['default']['OPTIONS']: size must be positive",
            ),
            (
                {"default": {**COLOUR, "OPTIONS": {"sise": 3}}},
                "VISUAL_SEARCH['EXTRACTORS']['default']['OPTIONS']: Extractor.__init__() got an unexpected keyword",
            ),
            (
                {"default": {"BACKEND": f"{__name__}.Failing"}},
                "AttributeError: 'Failing' object has no attribute 'nothing'",
            ),
            ({"default": "tests.testshop.extractors.ColourExtractor"}, "TypeError: string indices must be integers"),
            ({"default": {"BACKEND": None}}, "AttributeError: 'NoneType' object has no attribute 'rsplit'"),
        ],
    )
    def test_unusable(self, settings, product_field, extractors, problem):
        settings.VISUAL_SEARCH = {"EXTRACTORS": extractors}
        (message,) = extractor_checks.check_extractor(product_field)
        # The wording of a TypeError varies between versions of Python.
        assert message.msg.startswith(f"Extractor 'default' can't be used: {problem}")
        assert message == error(10, message.msg, self.HINT, product_field)
        assert [m.id for m in ours.check_project()] == ["visual_search.E010"] * len(embedding_fields())

    @isolate_apps("tests.testshop")
    def test_dimensions(self):
        class Wide(models.Model):
            image = models.ImageField()
            embedding = EmbeddingField(source="image", dimensions=256)

            class Meta:
                app_label = "testshop"

        field = Wide._meta.get_field("embedding")
        assert extractor_checks.check_dimensions(field) == [
            error(
                11,
                "'dimensions' is 256, but extractor 'default' gives vectors of 48 numbers.",
                "Write dimensions=48 and make a migration, which empties the column, or choose another extractor. "
                "Sweeps or reindex_embeddings fill the column again.",
                field,
            )
        ]
        field.dimensions = DIMENSIONS
        assert extractor_checks.check_dimensions(field) == []

    def test_missing_runtime(self, settings):
        settings.VISUAL_SEARCH = backend(NeedsRuntime)
        assert ours.check_project() == [warning(2, "Extractor 'default' can't run here.", "Install the runtime.")]

    def test_a_plain_check_asks_no_database(self, settings):
        # pytest-django refuses a connection in a test without the django_db mark.
        settings.VISUAL_SEARCH = backend(NeedsFile)
        assert ours.check_project() == []

    @pytest.mark.django_db
    def test_the_database_has_no_model(self, settings):
        settings.VISUAL_SEARCH = backend(NeedsFile)
        expected = [warning(2, "Extractor 'default' can't run here.", "Put the model into the store.")]
        assert ours.check_databases(databases=["default"]) == expected

    @pytest.mark.django_db
    def test_the_database_has_the_model(self, settings, tmp_path):
        settings.VISUAL_SEARCH = {**backend(NeedsFile), "CACHE_DIR": tmp_path}
        DatabaseStore().put("model", b"bytes")
        assert ours.check_databases(databases=["default"]) == []

    @pytest.mark.django_db(transaction=True)
    def test_before_the_first_migrate(self, settings, product_field):
        settings.VISUAL_SEARCH = backend(NeedsFile)
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_visual_search_artifact RENAME TO elsewhere")
        try:
            expected = [warning(2, "Extractor 'default' can't run here.", "Put the model into the store.")]
            assert extractor_checks.check_runtime_and_store(product_field) == expected
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE elsewhere RENAME TO django_visual_search_artifact")


class ToOther:
    def db_for_write(self, model, **hints):
        return "other"


class TestDatabase:
    def test_only_named_databases_are_asked(self):
        assert ours.check_databases() == []

    @pytest.mark.django_db
    def test_old_extension(self, monkeypatch):
        monkeypatch.setattr(database_checks, "OLDEST", "99.1")
        with connection.cursor() as cursor:
            cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            version = cursor.fetchone()[0]
        assert database_checks.check_extension("default") == [
            warning(
                4,
                f"pgvector {version} of database 'default' is older than 99.1: its vacuum can corrupt HNSW indexes.",
                "Install a current pgvector on the server and run in this database: ALTER EXTENSION vector UPDATE;",
            )
        ]

    @pytest.mark.parametrize(
        ("older", "newer"), [("0.8.3", "0.8.4"), ("0.8.4", "0.8.10"), ("0.8", "0.8.1"), ("0.8.4", "1.0")]
    )
    def test_versions_are_compared_as_numbers(self, older, newer):
        assert database_checks._parts(older) < database_checks._parts(newer)

    @pytest.mark.django_db
    def test_absent_index(self, product_field):
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX product_embedding_hnsw")
        assert ours.check_databases(databases=["default"]) == [self.lost_index(product_field)]

    @pytest.mark.django_db
    def test_invalid_index(self, product_field):
        # What an interrupted CREATE INDEX CONCURRENTLY leaves behind
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'product_embedding_hnsw'::regclass"
            )
        assert database_checks.check_indexes(product_field, "default") == [self.lost_index(product_field)]

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        "change", ["ALTER TABLE testshop_product RENAME TO x", "ALTER TABLE testshop_product RENAME embedding TO x"]
    )
    def test_silent_before_the_table_or_its_column_is_migrated(self, product_field, change):
        with connection.cursor() as cursor:
            cursor.execute(change)
        assert database_checks.check_indexes(product_field, "default") == []

    def lost_index(self, field):
        return warning(
            5,
            "Index 'product_embedding_hnsw' is absent from database 'default', or invalid: every search reads the "
            "whole table.",
            "Run: python manage.py migrate  and then: python manage.py reindex_embeddings testshop.Product.embedding  "
            "(while that runs, the index may be absent).",
            field,
        )

    @pytest.fixture
    def sqlite(self, settings):
        database = {**connection.settings_dict, "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        connections["other"] = SqliteWrapper(database, alias="other")
        settings.DATABASE_ROUTERS = [f"{__name__}.ToOther"]
        yield
        del connections["other"]

    @pytest.mark.usefixtures("sqlite")
    def test_not_postgresql(self):
        labels = ", ".join(field.label for field in embedding_fields())
        assert ours.check_project() == [
            error(
                12,
                f"Database 'other' is not PostgreSQL (sqlite), but holds the vectors of {labels}.",
                "Set DATABASES['other']['ENGINE'] to 'django.db.backends.postgresql'.",
            )
        ]
        assert ours.check_databases(databases=["other"]) == []

    def test_only_the_apps_that_are_checked(self):
        assert ours._sound_fields([]) == []
        assert ours._sound_fields(None) == embedding_fields()


class TestBroker:
    WARNING = warning(
        6,
        "Celery's Redis transport has no socket timeout: workers and senders wait for ever for a silent broker.",
        'Set CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2} '
        "(broker_transport_options of the Celery app).",
    )

    @pytest.mark.parametrize(
        "url", ["redis://localhost:6379/0", "rediss://localhost", "redis+socket:///tmp/redis", "sentinel://localhost"]
    )
    def test_redis_without_a_timeout(self, celery, url):
        celery.update(broker_url=url)
        assert settings_checks.check_broker() == [self.WARNING]
        assert ours.check_project() == [self.WARNING]

    def test_redis_with_a_timeout(self, celery):
        celery.update(broker_url="redis://localhost", broker_transport_options={"socket_timeout": 5})
        assert settings_checks.check_broker() == []

    @pytest.mark.parametrize("url", [None, "amqp://localhost", "memory://", "sqs://"])
    def test_other_transports(self, celery, url):
        celery.update(broker_url=url)
        assert settings_checks.check_broker() == []

    def test_eager_tasks(self, celery):
        celery.update(broker_url="redis://localhost", task_always_eager=True)
        assert settings_checks.check_broker() == []


class TestPillow:
    def test_installed(self):
        version = importlib.metadata.version("pillow")
        assert bool(settings_checks.check_pillow()) == (int(version.partition(".")[0]) < 13)

    @pytest.mark.parametrize("version", ["13.0.0", "14.1", "13.0.0.dev0", "unknown"])
    def test_recent(self, version):
        assert settings_checks.check_pillow(version) == []

    def test_old(self):
        assert settings_checks.check_pillow("12.2.0") == [
            warning(
                7,
                "Pillow 12.2.0 is installed; its decoders read pictures that anybody may upload.",
                'Install a current one: python -m pip install --upgrade "pillow>=13"',
            )
        ]


@pytest.mark.django_db
def test_a_head_that_contradicts_the_settings(settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    now, head = timezone.now(), make_head("one")
    live.forget_live_spaces()
    ServingSpace.objects.create(
        label=LABEL,
        extractor="default",
        head=head,
        previous_extractor="default",
        changed_at=now,
        effective_at=now,
        finished_at=now,
    )
    assert extractor_checks.check_serving(get_field(LABEL), "default") == []
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": EXTRACTORS["tight"]}}
    [message] = extractor_checks.check_serving(get_field(LABEL), "default")
    assert message.id == "visual_search.W009"
    assert message.msg.startswith(
        f"The extractor that serves {LABEL} can't be constructed: The head one was learned for the features classic-"
    )


def test_what_the_storefront_offers_exists(settings):
    offer = {"FACETS": ["category", "colour", "tags__name"], "PRICE": "price", "NEWEST": "made"}
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "STOREFRONT": {"testshop.Product": offer, "no.Such": {}}}
    found = [(message.id, message.msg) for message in check_storefront()]
    assert [check for check, _ in found] == ["visual_search.W018"] * 3
    assert ["'no.Such'" in found[0][1], "'colour'" in found[1][1], "'made'" in found[2][1]] == [True] * 3


def test_processes_share_the_cache_of_handles(settings):
    alone = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    shared = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    for caches, ids in (({"default": alone}, ["visual_search.W019"]), ({"default": shared}, [])):
        settings.CACHES = caches
        assert [message.id for message in check_handle_cache()] == ids


@pytest.mark.parametrize("backend", ["db.DatabaseCache", "filebased.FileBasedCache"])
def test_the_cache_of_handles_keeps_more_than_thumbnails_push_out(backend, settings):
    cache = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "handles"}
    few = ["The cache 'default' keeps 300 entries of all that the project caches: it soon forgets photos."]
    for options, messages in (
        ({}, few),
        ({"OPTIONS": {"MAX_ENTRIES": "many"}}, few),
        ({"OPTIONS": {"MAX_ENTRIES": 10_000}}, []),
    ):
        settings.CACHES = {"default": cache | options}
        found = check_handle_cache()
        assert [message.msg for message in found] == messages
        assert [message.id for message in found] == ["visual_search.W021"] * len(messages)
