"""System checks of the project: settings, extractors, databases and broker. A field's own are in ``field_checks.py``.

| id | what is wrong |
|---|---|
| ``visual_search.E001``, ``E002`` | ``dimensions`` or ``metric`` of a field |
| ``visual_search.E003`` … ``E006`` | ``source``: does not exist, too far away, link not one-to-one, not an ImageField |
| ``visual_search.E007`` | ``product`` is not a path of forward relations |
| ``visual_search.E008`` | an index's operator class and the metric disagree |
| ``visual_search.E009`` | ``VISUAL_SEARCH`` is not a dictionary or has unknown keys |
| ``visual_search.E010`` | an extractor is unknown, can't be imported or refuses its options |
| ``visual_search.E011`` | a field's ``dimensions`` are not the extractor's |
| ``visual_search.E012`` | a field is in a database that is not PostgreSQL |
| ``visual_search.E013``, ``E014`` | ``VISIBLE``: a label that is no model, a path that is no callable |
| ``visual_search.E015`` | ``RANKING`` names what is no ranker |
| ``visual_search.E016`` | ``FEEDBACK_WEIGHT``, ``HALF_LIFE_DAYS`` or ``POSITION_BIAS`` is out of bounds |
| ``visual_search.E017`` | ``FEEDBACK_DAYS`` or ``SESSION_DAYS`` is no sensible number of days |
| ``visual_search.E018`` | ``CLIENT_ADDRESS`` is no callable |
| ``visual_search.E019`` | ``THROTTLE_RATES`` has unknown kinds or rates that can't be read |
| ``visual_search.E020`` | ``PHOTO_SEARCHES_AT_ONCE`` or ``PAGE_DEPTH`` is not at least 1 |
| ``visual_search.E021`` | a primary key consists of several columns |
| ``visual_search.E022`` | a companion has columns that must be given, or inherits another model's table |
| ``visual_search.E023`` | ``FEATURE_CACHE_ROWS`` is no number of pictures |
| ``visual_search.E024`` | ``MIN_CONFIDENCE`` is no probability |
| ``visual_search.W001`` | a field has no ANN index |
| ``visual_search.W002`` | an extractor's runtime, weights or exported model is missing here |
| ``visual_search.W003``, ``W004`` | the ``vector`` extension is absent, or older than 0.8.4 |
| ``visual_search.W005`` | a declared ANN index is absent from the database, or invalid |
| ``visual_search.W006`` | Celery's Redis transport has no socket timeout |
| ``visual_search.W007`` | Pillow is older than 13 |
| ``visual_search.W008`` | our addresses are included and ``VISIBLE`` doesn't name a product model |
| ``visual_search.W009`` | the head or extractor that serves a field doesn't go with the settings any more |

Those that ask a database (``W003`` … ``W005``, and ``W002`` where the exported model may be there) run with ``migrate``
and with ``check --database default``.
"""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from ..fields import EmbeddingField
from ..fields.checks import check_embedding_field
from ..fields.registry import embedding_fields
from .database import check_extension, check_indexes
from .extractors import (
    check_dimensions,
    check_extractor,
    check_learning,
    check_runtime,
    check_runtime_and_store,
    check_serving,
)
from .settings import (
    check_broker,
    check_feedback,
    check_included_urls,
    check_keys,
    check_limits,
    check_pillow,
    check_ranking,
    check_visible,
)

TAG = "visual_search"


def register() -> None:
    """Called once the apps are ready."""
    checks.register(check_project, TAG)
    checks.register(check_included_urls, TAG)
    checks.register(check_databases, TAG, checks.Tags.database)


def check_project(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """What can be told without a connection."""
    fields = _sound_fields(app_configs)
    messages = check_keys()
    if not messages:  # else the settings can't be read
        messages += check_visible() + check_ranking() + check_feedback() + check_limits() + check_learning()
        for field in fields:
            messages += check_extractor(field) or [*check_dimensions(field), *check_runtime(field)]
    return [*_once(messages), *check_engines(fields), *check_broker(), *check_pillow()]


def check_databases(app_configs: Any = None, databases: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """What a connection has to tell; only for the databases that are asked for."""
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
    return _once(messages)


def check_engines(fields: list[EmbeddingField]) -> list[checks.CheckMessage]:
    """One message for each database that is to hold vectors and can't."""
    messages: list[checks.CheckMessage] = []
    for alias in dict.fromkeys(router.db_for_write(field.model) for field in fields):
        try:
            vendor = connections[alias].vendor
        except ImproperlyConfigured:  # the driver is missing; Django says so
            continue
        if vendor != "postgresql":
            labels = ", ".join(field.label for field in fields if router.db_for_write(field.model) == alias)
            messages.append(
                checks.Error(
                    f"Database {alias!r} is not PostgreSQL ({vendor}), but holds the vectors of {labels}.",
                    hint=f"Set DATABASES[{alias!r}]['ENGINE'] to 'django.db.backends.postgresql'.",
                    id="visual_search.E012",
                )
            )
    return messages


def _sound_fields(app_configs: Any) -> list[EmbeddingField]:
    """The fields without errors of their own, of the apps that are checked."""
    return [
        field
        for field in embedding_fields()
        if (app_configs is None or field.model._meta.app_config in app_configs)
        and not any(message.is_serious() for message in check_embedding_field(field))
    ]


def _once(messages: list[checks.CheckMessage]) -> list[checks.CheckMessage]:
    """Several fields with the same extractor have one fault."""
    unique: list[checks.CheckMessage] = []
    for message in messages:
        if message not in unique:
            unique.append(message)
    return unique
