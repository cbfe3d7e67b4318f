"""Deleting a picture's row while a worker writes its companion: the two must not meet in the middle."""

from __future__ import annotations

import functools
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models.signals import pre_delete

from .fields import EmbeddingField


def watch_deletions(field: EmbeddingField) -> None:
    """Receive ``pre_delete`` of the pictures that a companion of ours follows.

    Django deletes companions first and the picture next. A companion that a worker inserts between the two would make
    the shop's delete fail by its foreign key.
    """
    if field.link is None or field.link.remote_field.on_delete is not models.CASCADE:
        return
    pictures = field.target_model._meta.concrete_model
    for model in apps.get_models():
        if model._meta.concrete_model is pictures:
            pre_delete.connect(
                functools.partial(delete_companion, field),
                sender=model,
                weak=False,
                dispatch_uid=f"django_visual_search.delete_companion.{field.label}",
            )


def delete_companion(field: EmbeddingField, instance: models.Model, using: str, **kwargs: Any) -> None:
    """Lock the picture's row, which workers then pass over, and delete the companion that there may be by now."""
    assert field.link is not None
    with transaction.atomic(using=using):
        row = field.target_model._base_manager.using(using).filter(pk=instance.pk)
        row.select_for_update().values_list("pk").first()
        # Not delete(): the signals of a companion are sent by the delete that follows.
        companions = field.model._base_manager.using(using).filter(**{field.link.name: instance})
        companions._raw_delete(using)
