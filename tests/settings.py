"""Settings of the test suite: the example's embedded PostgreSQL, and models of every shape in ``tests.testshop``."""

import os
import tempfile
from pathlib import Path

from example_project.embedded_postgres import database

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

SECRET_KEY = "tests"
USE_TZ = True
DATABASES = {
    "default": database(
        Path(os.environ.get("TEST_POSTGRES", Path(tempfile.gettempdir()) / f"visual-search-tests-{os.getuid()}")),
        name="tests",
        tune={
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_parallel_maintenance_workers": "0",  # other tests keep the cores busy, for which workers would wait
        },
    )
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_filters",
    "drf_spectacular",
    "rest_framework",
    "django_visual_search",
    "tests.testshop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = str(
    Path(tempfile.gettempdir()) / "visual-search-no-media"
)  # never made: each test has a folder of its own
VISUAL_SEARCH = {
    "EXTRACTORS": {
        "default": {"BACKEND": "tests.testshop.extractors.ColourExtractor"},
    },
    "VISIBLE": {
        "testshop.Product": "tests.testshop.selectors.visible_products",
        "testshop.Article": "tests.testshop.selectors.visible_articles",
        "testshop.Poster": "tests.testshop.selectors.visible_posters",
        "testshop.Shoe": "tests.testshop.selectors.visible_shoes",
        "testshop.Spare": "tests.testshop.selectors.visible_spares",
        "testshop.Story": "tests.testshop.selectors.visible_stories",
    },
}
CELERY_BROKER_URL = os.environ.get("TEST_BROKER", "redis://127.0.0.1:6379/9")
