"""Settings of processes that tests start; TEST_PROCESS has what they share with the test process."""

import json
import os

from .settings import *  # noqa: F403
from .testshop.celery import app  # noqa: F401 (commands send to its broker)

# Workers and commands show no pages, and start in two thirds of the time without the apps that do.
INSTALLED_APPS = [
    *("django.contrib.auth", "django.contrib.contenttypes"),
    *("django_visual_search", "tests.testshop"),
]
ROOT_URLCONF = None

passed = json.loads(os.environ["TEST_PROCESS"])
DATABASES["default"].update(passed["database"])  # noqa: F405
MEDIA_ROOT = passed["media"]
VISUAL_SEARCH = passed["visual_search"]
CELERY_BROKER_URL = passed["broker"]
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"socket_timeout": 5, "socket_connect_timeout": 2} if CELERY_BROKER_URL.startswith("redis") else {"read_timeout": 5}
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "django_visual_search.sweep",
        "schedule": VISUAL_SEARCH.get("SWEEP_SECONDS", 30),
        "options": {"queue": VISUAL_SEARCH["QUEUE"], "expires": VISUAL_SEARCH.get("SWEEP_SECONDS", 30)},
    }
}
