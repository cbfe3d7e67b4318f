"""Settings of the example shop. Environment: DATABASE_URL, CELERY_BROKER_URL, EXAMPLE_DIR, VISUAL_SEARCH_EXTRACTOR."""

import os
from pathlib import Path

from .database_url import database_from_url

BASE_DIR = Path(__file__).resolve().parent.parent
# Everything that the shop creates: database, pictures, models
EXAMPLE_DIR = Path(os.environ.get("EXAMPLE_DIR") or BASE_DIR / ".example").absolute()

DEBUG = os.environ.get("DEBUG", "1") not in ("0", "false", "")
SECRET_KEY = os.environ.get("SECRET_KEY") or ("the-example-shop-keeps-no-secrets" * 2 if DEBUG else "")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "").split()

INSTALLED_APPS = [
    "example_project.shop",  # before staticfiles: its runserver adds a line
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_filters",
    "drf_spectacular",
    "imagekit",
    "rest_framework",
    "django_visual_search",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
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

if url := os.environ.get("DATABASE_URL"):
    DATABASES = {"default": database_from_url(url)}
else:
    from .embedded_postgres import database

    DATABASES = {"default": database(EXAMPLE_DIR / "postgres")}
# A new connection per request would add about 4 ms, more than the search takes
DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {"TITLE": "Example shop", "VERSION": "1", "SERVE_INCLUDE_SCHEMA": False}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "Simplified Chinese"), ("de", "German"), ("ar", "Arabic")]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = EXAMPLE_DIR / "static"
MEDIA_URL = "media/"
MEDIA_ROOT = EXAMPLE_DIR / "media"
# Thumbnails, of which imagekit keeps an entry each, would push photo searches out of Django's 300 entries.
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 10_000}},
}

# Visual search

chosen = os.environ.get("VISUAL_SEARCH_EXTRACTOR", "lite")
if chosen == "cnn":
    alpha = os.environ.get("VISUAL_SEARCH_ALPHA")  # the width of a MobileNet
    EXTRACTOR = {
        "BACKEND": "django_visual_search.extractors.keras.KerasExtractor",
        "OPTIONS": {
            "application": os.environ.get("VISUAL_SEARCH_APPLICATION") or "EfficientNetV2B0",
            "weights": "imagenet",
            "application_kwargs": {"alpha": float(alpha)} if alpha else {},
            # Twice the work for far better hits
            "views": ["whole", "centre-mirrored"],
        },
    }
elif chosen == "classic":
    EXTRACTOR = {"BACKEND": "django_visual_search.extractors.classic.ClassicExtractor"}
else:
    EXTRACTOR = {"BACKEND": "django_visual_search.extractors.lite.EfficientNetLiteExtractor"}
VISUAL_SEARCH = {
    "EXTRACTORS": {"default": EXTRACTOR},
    "VISIBLE": {"shop.Product": "example_project.shop.selectors.visible_products"},
    "STOREFRONT": {"shop.Product": {"FACETS": ["category", "brand"], "PRICE": "price", "NEWEST": "created"}},
    "THUMBNAIL": "django_visual_search.contrib.thumbnails.imagekit",
    "CARD": "example_project.shop.cards.card",
    "TEXT_FIELDS": {"shop.Product": ["name", "description", "category__name"]},
    "TEXT_LANGUAGE": "english",
    "MIN_CONFIDENCE": 0.5,
    "QUEUE": "visual_search",
    "CACHE_DIR": EXAMPLE_DIR / "models",
}

# Celery: with a broker, tasks run in `celery -A example_project worker -Q visual_search`; without, inline

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or None
CELERY_TASK_ALWAYS_EAGER = CELERY_BROKER_URL is None
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A dead or silent broker must not delay the saving of a product
CELERY_BROKER_CONNECTION_TIMEOUT = 2
if (CELERY_BROKER_URL or "").startswith(("redis", "rediss")):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2, "retry_on_timeout": False}
elif CELERY_BROKER_URL:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"connect_timeout": 2, "read_timeout": 5, "write_timeout": 5}
CELERY_BEAT_SCHEDULE_FILENAME = str(EXAMPLE_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "visual-search-sweep": {
        "task": "django_visual_search.sweep",
        "schedule": 30,
        # A sweep that has waited until the next one is due is useless
        "options": {"queue": VISUAL_SEARCH["QUEUE"], "expires": 30},
    }
}
