"""Every name that a shop may have written down still works: imports, settings, commands, tasks, templates."""

import importlib
from pathlib import Path

import pytest
from celery import current_app
from django.apps import apps
from django.contrib.auth.management import _get_all_permissions
from django.core.management import get_commands
from django.template import engines
from django.template.loader import get_template
from django.urls import reverse

import django_visual_search

IMPORTS = {
    "django_visual_search": ["__version__"],
    "django_visual_search.admin": ["StaffPhotoForm", "VisualSearchAdminMixin"],
    "django_visual_search.api": ["VisualSearchMixin"],
    "django_visual_search.apps": ["VisualSearchConfig"],
    "django_visual_search.conf": ["DEFAULTS", "conf"],
    "django_visual_search.extractors": [
        *("ArtifactStore", "DirectoryStore", "Extractor", "ExtractorSpec", "ExtractorUnavailable"),
    ],
    "django_visual_search.extractors.backbone": ["BackboneExtractor"],
    "django_visual_search.extractors.base": ["ExtractorUnavailable", "digest", "l2_normalise"],
    "django_visual_search.extractors.classic": ["ClassicExtractor"],
    "django_visual_search.extractors.heads": ["LinearHead"],
    "django_visual_search.extractors.hub": ["KerasHubExtractor"],
    "django_visual_search.extractors.keras": ["KerasExtractor"],
    "django_visual_search.extractors.lite": ["EfficientNetLiteExtractor"],
    "django_visual_search.extractors.tuned": ["TunedExtractor"],
    "django_visual_search.feedback": [
        *("BadEvent", "BadToken", "NotOffered", "Report", "aggregate", "log_search", "record", "report", "session_of"),
    ],
    "django_visual_search.fields": ["EmbeddingField"],
    "django_visual_search.gate": ["Busy", "photo_slot", "refuse_when_full"],
    "django_visual_search.images": [
        *("CODES", "FITS", "FORMATS", "VERSION", "ImageOptions", "ImageRefused", "check_crop", "load"),
    ],
    "django_visual_search.indexes": ["EmbeddingIndex"],
    "django_visual_search.models": [
        *("Artifact", "EmbeddingHead", "Evidence", "Feedback", "FindabilityFinding", "IndexingAttempt", "IndexingRun"),
        *("PictureFeatures", "RankingRule", "SearchLog", "ServingSpace", "TextHead"),
    ],
    "django_visual_search.ranking": ["diversity", "feedback", "merchandise", "mmr"],
    "django_visual_search.results": ["Ranking", "SearchHit", "SearchResults", "read_token"],
    "django_visual_search.search": [
        *("FoundObject", "ObjectResults", "SearchHit", "SearchResults", "TextUnavailable", "find_objects", "next_page"),
        *("search_by_image", "search_by_queries", "search_by_text", "search_objects", "similar_to"),
    ],
    "django_visual_search.storefront": [
        *("HandleExpired", "PHOTO_ERRORS", "handle_of", "refusal_of", "search_by_handle", "search_by_photo"),
        *("search_by_words", "similar_items", "visible_within"),
    ],
    "django_visual_search.contrib.thumbnails": ["easy_thumbnails", "imagekit", "oscar", "pictures", "sorl", "wagtail"],
    "django_visual_search.tasks": ["aggregate", "check_findability", "embed", "sweep"],
    "django_visual_search.urls": ["app_name", "urlpatterns"],
    "django_visual_search.views": ["PhotoSearchView"],
}

SETTINGS = [
    "BATCH_SIZE",
    "CACHE_DIR",
    "CARD",
    "CLIENT_ADDRESS",
    "DECODERS",
    "DECODE_MEMORY_MB",
    "DECODE_SECONDS",
    "DETECTOR",
    "EF_SEARCH",
    "EXACT_ROWS",
    "EXTRACTORS",
    "FEATURE_CACHE_ROWS",
    "FEEDBACK_DAYS",
    "FEEDBACK_WEIGHT",
    "HANDLE_CACHE",
    "HANDLE_SECONDS",
    "HALF_LIFE_DAYS",
    "LEASE_SECONDS",
    "LOG_SEARCHES",
    "LOG_VECTORS",
    "MAINTENANCE_WORK_MEM",
    "MAIN_OBJECT",
    "MAX_ATTEMPTS",
    "MAX_LIMIT",
    "MAX_SCAN_TUPLES",
    "MIN_CONFIDENCE",
    "PAGE_DEPTH",
    "PHOTO_SEARCHES_AT_ONCE",
    "POSITION_BIAS",
    "PUBLISH_SECONDS",
    "QUEUE",
    "RANKING",
    "RANKING_DEPTH",
    "SESSION_DAYS",
    "STOREFRONT",
    "SWEEP_SECONDS",
    "TEXT_FIELDS",
    "TEXT_LANGUAGE",
    "TEXT_WEIGHT",
    "THROTTLE_RATES",
    "THUMBNAIL",
    "VISIBLE",
]

CHECKS = [
    *(f"E{number:03}" for number in range(1, 26)),
    *(f"W{number:03}" for number in range(1, 14)),
    *("W018", "W019", "W020", "W021"),
]

COMMANDS = [
    "aggregate_feedback",
    "erase_feedback",
    "evaluate_search",
    "export_feedback",
    "findability_report",
    "purge_feedback",
    "reindex_embeddings",
    "switch_embedding",
    "train_embedding",
]

TASKS = ["aggregate", "check_findability", "embed", "move_vectors", "sweep"]

TEMPLATES = [
    *(
        "base.html",
        "card.html",
        "card_reactions.html",
        "cards.html",
        "photo_results.html",
        "photo_search.html",
        "photo_search_form.html",
        "similar_items.html",
    ),
    *("admin/change_list.html", "admin/dashboard.html", "admin/findability.html", "admin/neighbours.html"),
    *("admin/photo_page.html", "evaluation/report.html"),
]

TAGS = [
    *("feedback_attributes", "get_cards", "get_similar_items", "photo_search_form", "reactions", "similar_items"),
    "staff_similar_items",
    "visual_search_script",
]

TABLES = [
    "artifact",
    "embeddingbatch",
    "embeddinghead",
    "evidence",
    "feedback",
    "findabilityfinding",
    "indexingattempt",
    "indexingrun",
    "picturefeatures",
    "rankingrule",
    "searchlog",
    "servingspace",
    "texthead",
]

PERMISSIONS = [
    *("check_findability", "view_dashboard", "view_findability", "change_indexingattempt", "add_rankingrule"),
    "change_embeddinghead",
]

ADMIN_HOOKS = [
    "get_visual_search_field",
    "get_visual_search_queryset",
    "has_reindex_permission",
    "visual_search_address",
    "visual_search_field",
    "visual_search_fields",
    "visual_search_form",
    "visual_search_links",
    "visual_search_media",
    "visual_search_neighbours",
    "visual_search_neighbours_shown",
    "visual_search_reindex",
    "visual_search_retry",
    "visual_search_status",
    "visual_search_template",
    "visual_search_url_name",
    "visual_search_view",
]
API_HOOKS = [
    "get_similar_object",
    "get_visual_search_field",
    "search_by_image",
    "search_by_image_page",
    "search_by_text",
    "similar",
    "visual_search_facets",
    "visual_search_field",
    "visual_search_parameters",
]

STATIC = ["admin.css", "admin_choice.js", "admin_photo.js", "feedback.js", "photo_search.js", "visual_search.css"]

PACKAGE = Path(django_visual_search.__file__).parent


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in IMPORTS.items() for name in names])
def test_import(module, name):
    assert getattr(importlib.import_module(module), name) is not None


def test_rankers_are_functions():
    ranking = importlib.import_module("django_visual_search.ranking")
    assert all(callable(getattr(ranking, name)) for name in IMPORTS["django_visual_search.ranking"])


def test_settings():
    from django_visual_search.conf import DEFAULTS

    assert set(SETTINGS) <= set(DEFAULTS)


def test_checks():
    from django_visual_search.checks import checks_table

    assert set(CHECKS) <= {check for check, _ in checks_table()}


def test_commands():
    ours = {name for name, app in get_commands().items() if app == "django_visual_search"}
    assert set(COMMANDS) <= ours


def test_tasks():
    importlib.import_module("django_visual_search.tasks")
    assert {f"django_visual_search.{name}" for name in TASKS} <= set(current_app.tasks)


@pytest.mark.parametrize("name", TEMPLATES)
def test_template(name):
    assert get_template(f"visual_search/{name}")


def test_tags():
    library = engines["django"].engine.template_libraries["visual_search"]
    assert set(TAGS) <= set(library.tags)


def test_tables():
    tables = {model._meta.db_table for model in apps.get_app_config("django_visual_search").get_models()}
    assert {f"django_visual_search_{name}" for name in TABLES} <= tables


def test_permissions():
    models = apps.get_app_config("django_visual_search").get_models()
    codenames = {codename for model in models for codename, _ in _get_all_permissions(model._meta)}
    assert set(PERMISSIONS) <= codenames


def test_migrations_of_shops_import_nothing_of_ours():
    from django.db.migrations.writer import MigrationWriter

    from django_visual_search.fields import EmbeddingField, EmbeddingIndex

    for value in (EmbeddingField(source="image", dimensions=8), EmbeddingIndex(fields=["embedding"], name="n")):
        text, imports = MigrationWriter.serialize(value)
        assert "django_visual_search" not in text + "".join(imports)


@pytest.mark.parametrize("name", STATIC)
def test_static_file(name):
    assert (PACKAGE / "static/django_visual_search" / name).is_file()


def test_addresses():
    shop = {"app_label": "testshop", "model_name": "product"}
    assert reverse("visual_search:feedback").endswith("/feedback/")
    assert reverse("visual_search:photo_search", kwargs=shop).endswith("/photo/testshop/product/")
    assert reverse("visual_search:search-by-image", kwargs=shop).endswith("/testshop/product/search-by-image/")
    assert reverse("visual_search:search-by-text", kwargs=shop).endswith("/testshop/product/search-by-text/")
    assert reverse("visual_search:similar", kwargs={**shop, "product": "1"}).endswith("/testshop/product/1/similar/")


def test_hooks_of_the_mixins():
    from django_visual_search.admin import VisualSearchAdminMixin
    from django_visual_search.api import VisualSearchMixin

    for name in ADMIN_HOOKS:
        assert hasattr(VisualSearchAdminMixin, name), name
    for name in API_HOOKS:
        assert hasattr(VisualSearchMixin, name), name
