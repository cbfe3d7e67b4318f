"""Settings of the benchmarks: a PostgreSQL of their own in ``BENCHMARKS_DIR``, a temporary folder."""

import os
from pathlib import Path

from example_project.embedded_postgres import database

FOLDER = Path(os.environ["BENCHMARKS_DIR"])
SHARED = Path(__file__).resolve().parents[3] / "shared"
GROCERY = SHARED / "data" / "grocery"

SECRET_KEY = "benchmarks"
USE_TZ = True
DATABASES = {
    "default": database(
        FOLDER / "postgres",
        name="benchmarks",
        # Waits for the disk would hide what is compared.
        tune={"fsync": "off", "synchronous_commit": "off", "shared_buffers": "512MB"},
    )
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "django_visual_search",
    "tests.benchmarks",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = str(FOLDER / "media")
VISUAL_SEARCH = {  # with the extractor of a shop that names none
    "CACHE_DIR": str(FOLDER / "cache"),
    "TEXT_FIELDS": {"benchmarks.Photographed": ["name"]},
}
CELERY_BROKER_URL = "memory://"
