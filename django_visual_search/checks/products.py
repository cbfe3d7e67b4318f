"""System checks of settings that name product models and fields, of the query handles' cache, and of text search."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models import Model

from ..conf import SETTINGS, conf
from ..db.rows import follow_path
from ..fields import EmbeddingField
from ..fields.checks import problem
from ..models import TextHead
from ..search.fulltext import text_path_fault, text_paths
from ..spaces.heads import serving_extractor_key

PROCESS_CACHES = ("django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.dummy.DummyCache")
"""Caches that processes don't share."""
COUNTED_CACHES = (
    "django.core.cache.backends.db.DatabaseCache",
    "django.core.cache.backends.filebased.FileBasedCache",
)
"""Caches that processes share and that delete entries, used or not, beyond ``MAX_ENTRIES``: 300, if it isn't set."""
FEWEST_ENTRIES = 1_000
"""A shop's pages cache more than 300 entries, as of thumbnails, before a shopper comes back to the hits of a photo."""


def check_storefront() -> list[checks.CheckMessage]:
    """Warn about models and fields in ``STOREFRONT`` that don't exist; pages leave them out."""
    named, messages = _named_models("STOREFRONT", "W018")
    for label, model, offer in named:
        sorting = [offer[key] for key in ("PRICE", "NEWEST") if key in offer]
        for path in (*offer.get("FACETS", ()), *sorting):
            if not _has_field(model, path):
                message = f"VISUAL_SEARCH['STOREFRONT'][{label!r}] has {path!r}, which is not a field of the product."
                hint = "Name fields of the product, or over a relation as in 'brand__country'."
                messages.append(problem("W018", message, hint))
    return messages


def check_text_fields() -> list[checks.CheckMessage]:
    """Warn about models and fields in ``TEXT_FIELDS`` that don't exist or have no text; texts leave them out."""
    named, messages = _named_models("TEXT_FIELDS", "W011")
    for label, model, paths in named:
        for path in paths:
            if fault := text_path_fault(model, path):
                message = f"VISUAL_SEARCH['TEXT_FIELDS'][{label!r}] has {path!r}: {fault}."
                hint = "Name fields of the product, or over a foreign key as in 'category__name'. This one is left out."
                messages.append(problem("W011", message, hint))
    return messages


def _named_models(name: str, check: str) -> tuple[list[tuple[str, type[Model], Any]], list[checks.CheckMessage]]:
    """Return (label, model, entry) of the installed models that a setting names, and messages about the others."""
    entries = getattr(conf, name)
    if SETTINGS[name].rule.fault(entries) is not None:
        return [], []  # another check reports it
    found: list[tuple[str, type[Model], Any]] = []
    messages: list[checks.CheckMessage] = []
    for label, entry in entries.items():
        try:
            found.append((label, apps.get_model(label), entry))
        except (LookupError, ValueError):
            message = f"VISUAL_SEARCH[{name!r}] has {label!r}, which is not an installed model."
            messages.append(problem(check, message, "Write the product's model as 'app.Model'."))
    return found, messages


def _has_field(model: type[Model], path: str) -> bool:
    try:
        follow_path(model, path)
    except FieldDoesNotExist:
        return False
    return True


def check_handle_cache(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where the cache loses query handles: filters and the way back to the hits would ask for the photo again."""
    alias = conf.HANDLE_CACHE
    cache = settings.CACHES.get(alias, {})
    backend = cache.get("BACKEND")
    if backend is None or backend in PROCESS_CACHES:
        message = f"Processes don't share the cache {alias!r}: filters of photo searches need the photo again."
        hint = (
            f"Set CACHES[{alias!r}] to a cache that all processes share, such as "
            "django.core.cache.backends.redis.RedisCache, or name another one in VISUAL_SEARCH['HANDLE_CACHE']."
        )
        return [problem("W019", message, hint)]
    try:
        entries = int((cache.get("OPTIONS") or {}).get("MAX_ENTRIES", 300))
    except (TypeError, ValueError):
        entries = 300  # as Django takes what is no number
    if backend in COUNTED_CACHES and entries < FEWEST_ENTRIES:
        message = f"The cache {alias!r} keeps {entries} entries of all that the project caches: it soon forgets photos."
        hint = (
            f"Write 'OPTIONS': {{'MAX_ENTRIES': 10_000}} in CACHES[{alias!r}], "
            "or name another one in VISUAL_SEARCH['HANDLE_CACHE']."
        )
        return [problem("W021", message, hint)]
    return []


def check_text_language(field: EmbeddingField, alias: str) -> list[checks.CheckMessage]:
    """Warn where the database has no text search configuration of the name in ``TEXT_LANGUAGE``."""
    if not text_paths(field.product_model):
        return []
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT cfgname FROM pg_ts_config WHERE pg_ts_config_is_visible(oid) ORDER BY cfgname")
            names = [name for (name,) in cursor.fetchall()]
    except DatabaseError:  # Django reports what is wrong with the connection
        return []
    if conf.TEXT_LANGUAGE in names:
        return []
    message = f"VISUAL_SEARCH['TEXT_LANGUAGE'] is {conf.TEXT_LANGUAGE!r}, which database {alias!r} does not have."
    return [problem("W012", message, f"It has: {', '.join(names)}. Searches by text fail until then.")]


def check_text_head(field: EmbeddingField, alias: str) -> list[checks.CheckMessage]:
    """Warn where a text head was learned for another space than the field's serving space."""
    try:
        heads = TextHead.objects.using(router.db_for_write(field.model)).filter(label=field.label)
        keys = list(heads.order_by("-pk").values_list("space_key", flat=True))
        wanted = serving_extractor_key(field) if keys else ""
    except (DatabaseError, ImproperlyConfigured):  # not migrated yet, or reported by another check
        return []
    if not keys or wanted in keys:
        return []
    message = f"The text head of {field.label} was learned for {keys[0]}, but {wanted} serves: texts do without it."
    return [problem("W013", message, f"Run: python manage.py train_embedding {field.label} --text", field)]
