"""Settings of the benchmarks: a PostgreSQL of their own in ``BENCHMARKS_DIR``, a temporary folder."""

import hashlib
import os
from pathlib import Path

from example_project.embedded_postgres import database

FOLDER = Path(os.environ["BENCHMARKS_DIR"])
SHARED = Path(__file__).resolve().parents[3] / "shared"
GROCERY = SHARED / "data" / "grocery"
WEIGHTS = SHARED / "weights" / "keras" / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"

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
NETWORK = {"application": "MobileNetV2", "application_kwargs": {"alpha": 0.35}, "weights": None}
if WEIGHTS.exists():
    NETWORK |= {"weights": str(WEIGHTS), "weights_sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}
VISUAL_SEARCH = {
    "EXTRACTORS": {
        "default": {"BACKEND": "django_visual_search.extractors.keras.KerasExtractor", "OPTIONS": NETWORK},
    },
    "CACHE_DIR": str(FOLDER / "cache"),
}
CELERY_BROKER_URL = "memory://"
