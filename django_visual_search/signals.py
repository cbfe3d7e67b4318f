"""React to the shop's saves and deletes: entry function ``connect_signals``, called once the apps are ready.

- A saved picture is sent to Celery after the commit. That is the fast path; the sweep finds what it misses.
- With a deleted picture goes its companion, even one that a worker is writing at that moment.
- A saved ranking rule counts at once in this process, which remembers the rules.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from django.apps import apps
from django.db import DatabaseError, connections, models, router, transaction
from django.db.models import Q
from django.db.models.base import ModelState
from django.db.models.signals import post_delete, post_save, pre_delete, pre_migrate

from . import indexing
from .db.extension import before_migrate
from .db.rows import all_rows, key_text
from .db.statements import Statement, execute_together
from .fields import EmbeddingField
from .fields.checks import check_embedding_field
from .fields.registry import Feed, embedding_fields, feeds_from, feeds_of
from .indexing.publishing import enqueue
from .indexing.stale import batched
from .models import RankingRule
from .search.planning import forget_facts
from .spaces.heads import serving_embedding_key
from .tasks import embed

logger = logging.getLogger("django_visual_search")


def connect_signals() -> None:
    """Connect the handlers below; the embedding fields whose declaration is faulty are left to the checks."""
    fields = [
        field
        for field in embedding_fields()
        if not any(message.is_serious() for message in check_embedding_field(field))
    ]
    for image_field in {field.image_field for field in fields}:
        watch_stored_files(image_field)
    post_save.connect(embed_after_commit, dispatch_uid="django_visual_search.embed_after_commit")
    for field in fields:
        watch_deletions(field)
        watch_detached(field)
    for signal in (post_save, post_delete):
        signal.connect(forget_rules, sender=RankingRule, dispatch_uid="django_visual_search.forget_rules")
    pre_migrate.connect(before_migrate, dispatch_uid="django_visual_search.before_migrate")


_stored_files: WeakKeyDictionary[ModelState, set[str]] = WeakKeyDictionary()
"""Image fields for which a file was stored since the instance was saved; by the instance's state."""


def watch_stored_files(image_field: models.ImageField) -> None:
    """Note the files stored for an instance: a storage may give one the name of its predecessor.

    Every way of storing a file through a model calls ``generate_filename``, ``instance.image.save()`` too.
    """
    original = image_field.generate_filename

    @functools.wraps(original)
    def generate_filename(instance: models.Model | None, filename: str) -> str:
        if instance is not None:
            _stored_files.setdefault(instance._state, set()).add(image_field.name)
        return original(instance, filename)

    image_field.generate_filename = generate_filename  # type: ignore[method-assign]


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
    using = using or router.db_for_write(sender, instance=instance)
    stored = _stored_files.pop(instance._state, set())
    saved = set()
    for feed in feeds_from(sender):
        field, written = feed.field, _written(feed, instance, update_fields)
        if not written:
            continue
        saved |= {column.name for column in written}
        if not _is_same_database(using, router.db_for_write(field.model)):
            continue  # its vector is elsewhere, of another row
        name = field.image_field.name
        has_file = feed.has_image and name in stored
        replaced = has_file and not created
        image_name = (getattr(instance, name).name or "") if feed.has_image else ""
        new_file = image_name if has_file else ""
        if not feed.is_direct:
            if not (created and feed.path) or new_file:  # nothing leads to a new row
                marked = replaced and _mark_stale(feed, instance)
                work = functools.partial(_send_led_to, feed, instance.pk, replaced and not marked, new_file)
                after_commit(work, using)
            continue
        marked = replaced and _mark_stale(feed, instance)
        if replaced or not _shows_current(field, instance, created):
            work = functools.partial(
                _send_embedding, field, instance.pk, image_name, created or replaced, replaced and not marked, new_file
            )
            after_commit(work, using)
    if stored - saved:
        _stored_files[instance._state] = stored - saved


def _written(feed: Feed, instance: models.Model, update_fields: frozenset[str] | None) -> list[models.Field]:
    """Return those of the feed's columns that this save has written."""
    deferred = instance.get_deferred_fields()
    return [
        column
        for column in feed.columns
        if column.attname not in deferred
        and (update_fields is None or not update_fields.isdisjoint({column.name, column.attname}))
    ]


def led_to(feed: Feed, key: Any) -> Q:
    """Match the rows that a row of the feed's table leads to, or is. ``key``: its primary key."""
    return Q(**{f"{feed.path}__pk" if feed.path else "pk": key})


def _rows_led_to(feed: Feed, key: Any) -> Any:
    rows = all_rows(feed.field.target_model, router.db_for_write(feed.field.model))
    return rows.filter(led_to(feed, key)).order_by("pk").values_list("pk", flat=True)


def _is_same_database(using: str, other: str) -> bool:
    """Return whether both aliases lead to the same database."""
    if using == other:
        return True
    entries = [connections[alias].settings_dict for alias in (using, other)]
    return all(entries[0].get(key) == entries[1].get(key) for key in ("HOST", "PORT", "NAME"))


def after_commit(work: Callable[[], Any], using: str | None) -> None:
    """Do the work once the transaction commits; errors are only logged. Without autocommit, do nothing.

    Then the sweep finds the pictures.
    """
    connection = transaction.get_connection(using)
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(work, using=using, robust=True)


def _mark_stale(feed: Feed, instance: models.Model) -> bool:
    """Return False, with a line in the log, where marking fails or would wait for a lock; a worker then does it."""
    field = feed.field
    try:
        with _brief_waits(router.db_for_write(field.model)):
            rows = list(_rows_led_to(feed, instance.pk)) if feed.path else [instance.pk]
            indexing.mark_stale(field, rows)
    except DatabaseError as e:
        logger.warning("visual search: %s of %s could not be marked as stale now: %s", field.label, instance.pk, e)
        return False
    return True


def _shows_current(field: EmbeddingField, instance: models.Model, created: bool) -> bool:
    """Return whether there is nothing to do: a new row without a picture, or a vector of the current picture."""
    image = getattr(instance, field.image_field.name)
    if created or not image:
        return created and not image
    if not isinstance(instance, field.model) or field.key_name in instance.get_deferred_fields():
        return False
    try:
        return bool(getattr(instance, field.key_name) == serving_embedding_key(field, image.name, at_any_age=True))
    except Exception:
        # A misnamed extractor is reported by the checks and workers, not to someone who saves a product.
        logger.exception("visual search: the extractor of %s", field.label)
        return False


def _send_embedding(
    field: EmbeddingField, key: Any, image_name: str, stale: bool, replaced: bool, new_file: str
) -> None:
    if stale or _is_stale(field, key, image_name):
        _send_rows(field, [key], replaced, new_file)


def _send_rows(field: EmbeddingField, keys: list[Any], replaced: bool, new_file: str) -> None:
    using = router.db_for_write(field.model)
    more = {name: value for name, value in {"replaced": replaced, "new_file": new_file}.items() if value}
    for some in batched(keys, MOST_SENT) if keys else [()]:
        if some or new_file:
            enqueue(embed, field.label, [key_text(field.target_model, key, using) for key in some], **more)


MOST_SENT = 1000
"""Most rows that a save sends to a worker; if more rows share a picture, the sweep does the rest."""


def _send_led_to(feed: Feed, key: Any, replaced: bool, new_file: str) -> None:
    """Send the rows whose picture a saved row decides: the stale ones, or all where they could not be marked."""
    field = feed.field
    using = router.db_for_write(field.model)
    try:
        with _brief_waits(using):
            if replaced:
                keys = list(_rows_led_to(feed, key))
            else:
                stale = indexing.pending(field).filter(led_to(feed, key)).order_by("pk")
                keys = list(stale.values_list("pk", flat=True)[:MOST_SENT])
    except Exception:  # the database or the extractor fails; the sweep looks again
        logger.exception("visual search: what %s %s leads to", feed.model._meta.label, key)
        return
    _send_rows(field, keys, replaced, new_file)


def _is_stale(field: EmbeddingField, key: Any, image_name: str) -> bool:
    """Look up the vector's key, of a saved row that doesn't show it: it is on a companion, or newer in the database.

    One row by its primary key, where ``indexing.stale`` compares in SQL: building that query costs a save more.
    """
    connection = connections[router.db_for_write(field.model)]
    try:
        if connection.in_atomic_block:  # of another database than the saved row's
            return True
        pk = field.target_model._meta.pk.get_db_prep_value(key, connection)
        _, found = execute_together(connection, [_BRIEFLY, (_key_lookup(field, connection.alias), (pk,))])
        if not found and field.link is None:
            return False  # a parent's row without the child that has the vector
        return (found[0][0] if found else None) != (serving_embedding_key(field, image_name) if image_name else None)
    except Exception:  # the database or the extractor fails: the worker reports it
        logger.exception("visual search: %s of %s", field.label, key)
        return True


@functools.cache
def _key_lookup(field: EmbeddingField, using: str) -> str:
    """Return SQL for the vector's key, by the primary key of the row that has the picture."""
    quote, opts = connections[using].ops.quote_name, field.model._meta
    sql = f"SELECT owner.{quote(opts.get_field(field.key_name).column)} FROM {quote(opts.db_table)} AS owner"
    if field.link is None:
        return f"{sql} WHERE owner.{quote(opts.pk.column)} = %s"
    referred = field.link.target_field
    target = referred.model._meta  # of a child, the table that has the column
    if referred.primary_key and target is field.target_model._meta:
        return f"{sql} WHERE owner.{quote(field.link.column)} = %s"
    return (
        f"{sql} JOIN {quote(target.db_table)} AS target ON target.{quote(referred.column)} = "
        f"owner.{quote(field.link.column)} WHERE target.{quote(target.pk.column)} = %s"
    )


LOCK_TIMEOUT = "300ms"
"""Our table or a companion's row may be locked by someone; a save does not wait for them."""
_BRIEFLY: Statement = ("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))


@contextlib.contextmanager
def _brief_waits(using: str) -> Iterator[None]:
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        before, _ = cursor.fetchone()
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def watch_deletions(field: EmbeddingField) -> None:
    """Receive ``pre_delete`` of the pictures that a companion of ours follows.

    Django deletes companions first and the picture next. A companion that a worker inserts between the two would make
    the shop's delete fail by its foreign key.
    """
    if field.link is None or field.link.remote_field.on_delete is not models.CASCADE:
        return
    receiver = functools.partial(delete_companion, field)
    _connect_pre_delete(field.target_model, receiver, f"delete_companion.{field.label}")


def delete_companion(field: EmbeddingField, instance: models.Model, using: str, **kwargs: Any) -> None:
    """Lock the picture's row, which workers then skip, and delete the companion that one may have written by now."""
    assert field.link is not None
    with transaction.atomic(using=using):
        row = all_rows(field.target_model, using).filter(pk=instance.pk)
        row.select_for_update().values_list("pk").first()
        # Not delete(): the signals of a companion are sent by the delete that follows.
        companions = all_rows(field.model, using).filter(**{field.link.name: instance})
        companions._raw_delete(using)


def watch_detached(field: EmbeddingField) -> None:
    """Receive ``pre_delete`` of the rows between this field's rows and their pictures, where that deletes none of them.

    ``SET_NULL`` sends no signal of the rows that lose their picture.
    """
    for feed in feeds_of(field):
        relations = field.route[: len(feed.path.split("__"))] if feed.path else ()
        if any(relation.remote_field.on_delete is not models.CASCADE for relation in relations):
            receiver = functools.partial(clear_after_commit, feed)
            _connect_pre_delete(feed.model, receiver, f"clear_after_commit.{field.label}.{feed.path}")


def _connect_pre_delete(model: type[models.Model], receiver: Callable[..., None], name: str) -> None:
    """Connect to the model and its proxies, of which each sends its own signal."""
    for one in apps.get_models():
        if one._meta.concrete_model is model._meta.concrete_model:
            pre_delete.connect(receiver, sender=one, weak=False, dispatch_uid=f"django_visual_search.{name}")


def clear_after_commit(feed: Feed, instance: models.Model, using: str, **kwargs: Any) -> None:
    """Send the rows that are about to lose their picture, because afterwards no path leads to them."""
    field = feed.field
    try:
        with _brief_waits(using):
            keys = list(_rows_led_to(feed, instance.pk)[:MOST_SENT])
    except DatabaseError as e:
        logger.warning("visual search: %s of a deleted %s: %s", field.label, feed.model._meta.label, e)
        return
    if keys:
        texts = [key_text(field.target_model, key, using) for key in keys]
        after_commit(functools.partial(enqueue, embed, field.label, texts), using)


def forget_rules(using: str | None = None, **kwargs: Any) -> None:
    """Forget the rules now and once more after the commit: until then, other threads read them as they were."""
    forget_facts()
    after_commit(forget_facts, using)
