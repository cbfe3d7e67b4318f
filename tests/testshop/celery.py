"""The test shop's Celery application, for workers in processes of their own."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

app = Celery("testshop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
