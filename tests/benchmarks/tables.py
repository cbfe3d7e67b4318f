"""Makes the tables, without migrations of their own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection


def create() -> None:
    call_command("migrate", verbosity=0, interactive=False, skip_checks=True)  # pgvector's extension
    with connection.schema_editor() as editor:
        for model in apps.get_app_config("benchmarks").get_models():
            editor.create_model(model)


def what_is_missing() -> Iterator[str]:
    """Sentences on what is measured with stand-ins here."""
    if not (settings.GROCERY / "train.txt").exists():
        yield f"{settings.GROCERY} is not here: the pictures are drawn."
    if find_spec("tensorflow") is None:
        yield "TensorFlow is not installed: (c) can't run VGG16 as the article does."
