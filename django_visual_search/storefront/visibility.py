"""Which products a visitor may see: the shop's own word, for every interface."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Manager, Model, QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string

from ..conf import conf


def visible(model: type[Model], request: HttpRequest | None = None) -> QuerySet[Any]:
    """What ``VISUAL_SEARCH["VISIBLE"]`` gives for the model or its nearest parent; else its default manager's rows.

    Raises ImproperlyConfigured where the callable can't be imported or gives something else than a queryset.
    """
    entries = {str(label).lower(): path for label, path in conf.VISIBLE.items()}
    for ancestor in model.__mro__:
        path = entries.get(ancestor._meta.label_lower) if hasattr(ancestor, "_meta") else None
        if path is None:
            continue
        try:
            queryset = (import_string(path) if isinstance(path, str) else path)(request)
        except ImportError as e:
            raise ImproperlyConfigured(f"VISUAL_SEARCH['VISIBLE']: {e}") from e
        if isinstance(queryset, Manager):
            queryset = queryset.all()
        if not isinstance(queryset, QuerySet):
            raise ImproperlyConfigured(f"VISUAL_SEARCH['VISIBLE']: {path!r} must return a queryset, not {queryset!r}.")
        return queryset
    return model._default_manager.all()
