"""When each check runs, and on which fields and databases.

Checks that ask a database (``W003`` to ``W005``, ``W009``, ``W012``, ``W013``, and ``W002`` where an exported model may
be stored) run with ``migrate`` and with ``check --database default``; ``W019`` to ``W021`` with ``check
--deploy``.
"""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from ..fields import EmbeddingField
from ..fields.checks import check_embedding_field, problem
from ..fields.registry import embedding_fields
from ..models import Evidence, Feedback, IndexingAttempt, RankingRule
from .database import check_extension, check_indexes
from .extractors import (
    check_dimensions,
    check_extractor,
    check_runtime,
    check_runtime_and_store,
    check_serving,
)
from .products import (
    check_handle_cache,
    check_storefront,
    check_text_fields,
    check_text_head,
    check_text_language,
)
from .settings import (
    check_broker,
    check_included_urls,
    check_keys,
    check_pillow,
    check_proxy,
    check_rankers,
    check_thumbnail,
    check_values,
    check_visible,
)

TAG = "visual_search"


def register() -> None:
    """Register the checks; call it once the apps are ready."""
    checks.register(check_project, TAG)
    checks.register(check_included_urls, TAG)
    checks.register(check_handle_cache, TAG, deploy=True)
    checks.register(check_thumbnail, TAG, deploy=True)
    checks.register(check_databases, TAG, checks.Tags.database)


def check_project(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Run the checks that need no connection."""
    fields = _sound_fields(app_configs)
    messages = check_keys()
    if not messages:  # else the settings can't be read
        messages += check_values() + check_visible() + check_rankers() + check_proxy() + check_text_fields()
        messages += check_storefront()
        for field in fields:
            messages += check_extractor(field) or [*check_dimensions(field), *check_runtime(field)]
    return [*_once(messages), *check_engines(fields), *check_own_tables(fields), *check_broker(), *check_pillow()]


def check_databases(app_configs: Any = None, databases: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Run the checks that ask a database, for ``databases`` only."""
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        fields = [field for field in _sound_fields(app_configs) if router.db_for_write(field.model) == alias]
        if not fields or connections[alias].vendor != "postgresql":
            continue
        messages += check_extension(alias)
        for field in fields:
            messages += check_indexes(field, alias)
            if not check_keys() and not check_extractor(field):
                messages += check_runtime_and_store(field) + check_serving(field, alias)
                messages += check_text_language(field, alias) + check_text_head(field, alias)
    return _once(messages)


def check_own_tables(fields: list[EmbeddingField]) -> list[checks.CheckMessage]:
    """Report fields whose vectors are in another database than this app's tables, which searches join with them."""
    messages: list[checks.CheckMessage] = []
    for field in fields:
        alias = router.db_for_write(field.model)
        elsewhere = [
            model.__name__
            for model in (IndexingAttempt, Evidence, RankingRule, Feedback, ContentType)
            if router.db_for_write(model) != alias or not router.allow_migrate_model(alias, model)
        ]
        if elsewhere:
            names = ", ".join(elsewhere)
            message = f"The vectors of {field.label} are in database {alias!r}, and {names} elsewhere."
            hint = (
                "Let DATABASE_ROUTERS send django_visual_search and contenttypes to the database of the vectors "
                "(db_for_read, db_for_write, allow_migrate): searches read both in one statement."
            )
            messages.append(problem("E026", message, hint, field))
    return messages


def check_engines(fields: list[EmbeddingField]) -> list[checks.CheckMessage]:
    """Report each database other than PostgreSQL that is to hold vectors."""
    messages: list[checks.CheckMessage] = []
    for alias in dict.fromkeys(router.db_for_write(field.model) for field in fields):
        try:
            vendor = connections[alias].vendor
        except ImproperlyConfigured:  # the driver is missing; Django says so
            continue
        if vendor != "postgresql":
            labels = ", ".join(field.label for field in fields if router.db_for_write(field.model) == alias)
            message = f"Database {alias!r} is not PostgreSQL ({vendor}), but holds the vectors of {labels}."
            hint = f"Set DATABASES[{alias!r}]['ENGINE'] to 'django.db.backends.postgresql'."
            messages.append(problem("E012", message, hint))
    return messages


def _sound_fields(app_configs: Any) -> list[EmbeddingField]:
    """Return the fields of the checked apps whose own declaration has no errors."""
    return [
        field
        for field in embedding_fields()
        if (app_configs is None or field.model._meta.app_config in app_configs)
        and not any(message.is_serious() for message in check_embedding_field(field))
    ]


def _once(messages: list[checks.CheckMessage]) -> list[checks.CheckMessage]:
    """Drop repetitions: fields with the same extractor have the same fault."""
    unique: list[checks.CheckMessage] = []
    for message in messages:
        if message not in unique:
            unique.append(message)
    return unique
