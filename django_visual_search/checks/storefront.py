"""System checks of what photo search pages offer: the fields in ``STOREFRONT``, and the cache of query handles."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from ..conf import SETTINGS, conf
from ..db.rows import follow_path
from ..fields.checks import problem

ALONE = ("django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.dummy.DummyCache")
"""Caches of which every process has its own, or none."""


def check_storefront() -> list[checks.CheckMessage]:
    """Warn about models and fields in ``STOREFRONT`` that don't exist; pages leave them out."""
    messages: list[checks.CheckMessage] = []
    if SETTINGS["STOREFRONT"].rule.fault(conf.STOREFRONT) is not None:
        return messages  # another check reports it
    for label, offer in conf.STOREFRONT.items():
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            message = f"VISUAL_SEARCH['STOREFRONT'] has {label!r}, which is not an installed model."
            messages.append(problem("W018", message, "Write the product's model as 'app.Model'."))
            continue
        sorting = [offer[key] for key in ("PRICE", "NEWEST") if key in offer]
        messages += [_fault(label, path) for path in (*offer.get("FACETS", ()), *sorting) if not _leads(model, path)]
    return messages


def _leads(model: type[Model], path: str) -> bool:
    try:
        follow_path(model, path)
    except FieldDoesNotExist:
        return False
    return True


def _fault(label: str, path: str) -> checks.CheckMessage:
    message = f"VISUAL_SEARCH['STOREFRONT'][{label!r}] has {path!r}, which is no field of the product."
    return problem("W018", message, "Name fields of the product, or over a relation as in 'brand__country'.")


def check_handle_cache(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where processes don't share the cache of query handles: most filters would ask for the photo again."""
    backend = settings.CACHES.get(conf.HANDLE_CACHE, {}).get("BACKEND")
    if backend is not None and backend not in ALONE:
        return []
    message = f"Processes don't share the cache {conf.HANDLE_CACHE!r}: filters of photo searches need the photo again."
    hint = (
        f"Set CACHES[{conf.HANDLE_CACHE!r}] to a cache that all processes share, such as "
        "django.core.cache.backends.redis.RedisCache, or name another one in VISUAL_SEARCH['HANDLE_CACHE']."
    )
    return [problem("W019", message, hint)]
