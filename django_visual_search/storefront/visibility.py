"""The products that a visitor may see: entry functions ``visible`` and ``visible_within``.

Every interface, the API too, asks here for the products that ``VISUAL_SEARCH["VISIBLE"]`` allows.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Manager, Model, QuerySet
from django.http import HttpRequest

from ..conf import conf
from ..conf.rules import visible_function
from ..db.rows import is_plain
from ..search.candidates import primary_keys

logger = logging.getLogger("django_visual_search")


def visible(model: type[Model], request: HttpRequest | None = None) -> QuerySet[Any]:
    """Return what ``VISUAL_SEARCH["VISIBLE"]`` gives for the model or its nearest parent.

    Without an entry, all products while ``DEBUG`` is on; else none, with an error in the log, because they may not be
    public. Raises ImproperlyConfigured for an entry that can't be called or returns anything but a queryset.
    """
    found = visible_rule(model)
    if found is None:
        if settings.DEBUG:
            return model._default_manager.all()
        _say_once(model._meta.label)
        return model._default_manager.none()
    owner, entry = found
    try:
        queryset = visible_function(owner, entry)(request)
    except ImproperlyConfigured as e:
        raise ImproperlyConfigured(f"VISUAL_SEARCH['VISIBLE']: {entry!r}: {e}.") from e
    if isinstance(queryset, Manager):
        queryset = queryset.all()
    if not isinstance(queryset, QuerySet):
        raise ImproperlyConfigured(f"VISUAL_SEARCH['VISIBLE']: {entry!r} must return a queryset, not {queryset!r}.")
    return queryset


def visible_rule(model: type[Model]) -> tuple[type[Model], Any] | None:
    """Return the nearest of the model and its parents with an entry in ``VISIBLE``, and the entry; None without one."""
    entries = {str(label).lower(): entry for label, entry in conf.VISIBLE.items() if entry is not None}
    for ancestor in model.__mro__:
        label = ancestor._meta.label_lower if hasattr(ancestor, "_meta") else None
        if label in entries:
            return ancestor, entries[label]
    return None


@functools.lru_cache(maxsize=64)
def _say_once(label: str) -> None:
    logger.error(
        "visual search: no %s is shown, because VISUAL_SEARCH['VISIBLE'] does not say which ones visitors may see. "
        "Name a function or a method of its manager there ('all' if all are public).",
        label,
    )


def visible_within(model: type[Model], request: HttpRequest | None, within: Any = None) -> Any:
    """Return the visible products that are in ``within``, selected and prefetched as there.

    Of a ``within`` that can't be narrowed (sliced, combined, distinct on fields) only the rows count. Without an entry
    in ``VISIBLE``, it and the model's default manager say which products are shown.
    """
    if isinstance(within, Manager):
        within = within.all()
    if within is None:
        return visible(model, request)
    if not isinstance(within, QuerySet):
        return within  # the search reports its fault
    allowed = visible(model, request) if visible_rule(model) else model._default_manager.all()
    if is_rigid(within):
        return allowed.filter(pk__in=primary_keys(within))
    query = allowed.query
    narrows = not is_plain(allowed) or query.where or query.extra_tables or is_rigid(allowed)
    if not narrows and issubclass(within.model, model):
        return within
    return within.filter(pk__in=primary_keys(allowed))


def is_rigid(queryset: QuerySet[Any]) -> bool:
    """Return whether the queryset's order or parts decide which rows it has."""
    query = queryset.query
    return bool(query.is_sliced or query.combinator or query.distinct_fields)


def all_of(within: QuerySet[Any]) -> QuerySet[Any]:
    """Return a queryset of the same rows that can be narrowed."""
    return within.model._default_manager.filter(pk__in=primary_keys(within)) if is_rigid(within) else within
