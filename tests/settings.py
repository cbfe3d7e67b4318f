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
        tune={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
    )
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "django_visual_search",
    "tests.testshop",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = tempfile.mkdtemp(prefix="visual-search-media-")
VISUAL_SEARCH = {
    "EXTRACTORS": {
        "default": {"BACKEND": "tests.testshop.extractors.ColourExtractor"},
    },
}
CELERY_BROKER_URL = os.environ.get("TEST_BROKER", "redis://127.0.0.1:6379/9")
