"""The fast path: a saved picture is sent to Celery after the commit. The sweep finds whatever this misses.

Deleting a picture's row while a worker writes its companion: the two must not meet in the middle.

Staff see at once what a rule of theirs does: this process forgets the rules that it remembers.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections, models, router, transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_migrate

from . import indexing
from .db.extension import before_migrate
from .fields import EmbeddingField
from .fields.checks import check_embedding_field
from .fields.registry import embedding_fields, fields_fed_by
from .indexing.publishing import enqueue
from .models import RankingRule
from .search.planning import forget_facts
from .spaces.heads import wanted_embedding_key
from .tasks import embed

logger = logging.getLogger("django_visual_search")

NEW_FILES = "_visual_search_new_files"
LOADED = "_visual_search_loaded"

# Our table or a companion's row may be locked by someone; who saves a picture does not wait for them.
LOCK_TIMEOUT = "300ms"


def connect() -> None:
    """Called once the apps are ready."""
    for field in embedding_fields():
        if not any(message.is_serious() for message in check_embedding_field(field)):
            watch_new_files(field.image_field)
            watch_deletions(field)
            watch_loads(field)
    post_save.connect(embed_after_commit, dispatch_uid="django_visual_search.embed_after_commit")
    pre_migrate.connect(before_migrate, dispatch_uid="django_visual_search.before_migrate")
    watch_rules()


def watch_new_files(image_field: models.ImageField) -> None:
    """Remember on an instance that a file was stored for it: a storage may store it under the name of its predecessor.

    ``generate_filename`` is what every way of storing a file through the model calls, ``instance.image.save()`` too.
    """
    original = image_field.generate_filename
    if getattr(original, "visual_search", False):
        return

    @functools.wraps(original)
    def generate_filename(instance: models.Model | None, filename: str) -> str:
        if instance is not None:
            instance.__dict__.setdefault(NEW_FILES, set()).add(image_field.name)
        return original(instance, filename)

    generate_filename.visual_search = True  # type: ignore[attr-defined]
    image_field.generate_filename = generate_filename  # type: ignore[method-assign]


def watch_loads(field: EmbeddingField) -> None:
    """Remember the picture's name as an instance was loaded, where the vector is on a companion.

    The instance doesn't show whether its vector is current, as it does where it has the vector's key; but as long as it
    has the picture it was loaded with, a new price is no reason to look.
    """
    model, attname = field.target_model, field.image_field.attname
    original = model.from_db.__func__  # type: ignore[attr-defined]
    known: frozenset[str] = getattr(original, "visual_search", frozenset())
    if field.link is None or attname in known:
        return

    @functools.wraps(original)
    def from_db(cls: type[models.Model], *args: Any, **kwargs: Any) -> models.Model:
        instance: models.Model = original(cls, *args, **kwargs)
        image = instance.__dict__.get(attname)  # absent if deferred
        if image:
            instance.__dict__.setdefault(LOADED, {})[attname] = getattr(image, "name", image)
        return instance

    from_db.visual_search = known | {attname}  # type: ignore[attr-defined]
    model.from_db = classmethod(from_db)  # type: ignore[assignment]


def embed_after_commit(
    sender: Any,
    instance: models.Model,
    created: bool = False,
    raw: bool = False,
    using: str | None = None,
    update_fields: frozenset[str] | None = None,
    **kwargs: Any,
) -> None:
    """Mark vectors of replaced pictures as stale, in the shop's own transaction, and send the work once it commits."""
    if raw:
        return
    new_files = instance.__dict__.get(NEW_FILES, set())
    saved = set()
    for field in fields_fed_by(sender):
        name = field.image_field.name
        if field.image_field.attname in instance.get_deferred_fields():
            continue
        if update_fields is not None and name not in update_fields:
            continue
        saved.add(name)
        replaced = name in new_files and not created
        marked = replaced and _mark_stale(field, instance)
        if replaced or _may_be_stale(field, instance, created):
            work = functools.partial(_send, field, str(instance.pk), replaced and not marked)
            transaction.on_commit(work, using=using or router.db_for_write(sender, instance=instance), robust=True)
    new_files -= saved


def _mark_stale(field: EmbeddingField, instance: models.Model) -> bool:
    """False, and a line in the log, where that fails or would wait for a lock; the worker is then asked to do it."""
    using = router.db_for_write(field.model)
    try:
        with transaction.atomic(using=using), _brief_waits(connections[using]):
            indexing.mark_stale(field, [instance.pk])
    except DatabaseError as e:
        logger.warning("visual search: %s of %s could not be marked as stale now: %s", field.label, instance.pk, e)
        return False
    return True


@contextlib.contextmanager
def _brief_waits(connection: Any) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        before, _ = cursor.fetchone()
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def _may_be_stale(field: EmbeddingField, instance: models.Model, created: bool) -> bool:
    """False only where the instance itself shows a vector made from the picture that it has, is new and has none, or
    still has the picture that it was loaded with and its vector is elsewhere."""
    image = getattr(instance, field.image_field.name)
    if not image:
        return not created
    if field.link is not None:
        loaded = instance.__dict__.get(LOADED, {})
        return bool(created or loaded.get(field.image_field.attname) != image.name)
    if not isinstance(instance, field.model):
        return True
    if field.key_name in instance.get_deferred_fields():
        return True
    try:
        return bool(getattr(instance, field.key_name) != wanted_embedding_key(field, image.name, at_any_age=True))
    except Exception:
        # An extractor that the settings misname is a matter for the checks and workers, not for who saves a product.
        logger.exception("visual search: the extractor of %s", field.label)
        return True


def _send(field: EmbeddingField, key: str, replaced: bool) -> None:
    enqueue(embed, field.label, [key], **({"replaced": True} if replaced else {}))


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


def watch_rules() -> None:
    """Called once the apps are ready."""
    for signal in (post_save, post_delete):
        signal.connect(forget_rules, sender=RankingRule, dispatch_uid="django_visual_search.forget_rules")


def forget_rules(using: str | None = None, **kwargs: Any) -> None:
    forget_facts()
    # Until the commit, other threads still read the rules as they were.
    transaction.on_commit(forget_facts, using=using, robust=True)
