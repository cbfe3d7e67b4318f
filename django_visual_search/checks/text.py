"""System checks of searches by text: the fields that ``TEXT_FIELDS`` names, the language, and learned text heads."""

from __future__ import annotations

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router

from ..conf import SETTINGS, conf
from ..fields import EmbeddingField
from ..fields.checks import problem
from ..models import TextHead
from ..search.fulltext import text_path_fault, text_paths
from ..spaces.heads import wanted_extractor_key


def check_text_fields() -> list[checks.CheckMessage]:
    """Warn about models and fields in ``TEXT_FIELDS`` that don't exist or have no text; texts leave them out."""
    messages: list[checks.CheckMessage] = []
    if SETTINGS["TEXT_FIELDS"].rule.fault(conf.TEXT_FIELDS) is not None:
        return messages  # another check reports it
    for label, paths in conf.TEXT_FIELDS.items():
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            message = f"VISUAL_SEARCH['TEXT_FIELDS'] has {label!r}, which is not an installed model."
            messages.append(problem("W011", message, "Write the product's model as 'app.Model'."))
            continue
        for path in paths:
            if fault := text_path_fault(model, path):
                message = f"VISUAL_SEARCH['TEXT_FIELDS'][{label!r}] has {path!r}: {fault}."
                hint = "Name fields of the product, or over a foreign key as in 'category__name'. This one is left out."
                messages.append(problem("W011", message, hint))
    return messages


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
    """Warn where a text head was learned for another space than the one that is to serve the field."""
    try:
        heads = TextHead.objects.using(router.db_for_write(field.model)).filter(label=field.label)
        keys = list(heads.order_by("-pk").values_list("space_key", flat=True))
        wanted = wanted_extractor_key(field) if keys else ""
    except (DatabaseError, ImproperlyConfigured):  # not migrated yet, or reported by another check
        return []
    if not keys or wanted in keys:
        return []
    message = f"The text head of {field.label} was learned for {keys[0]}, but {wanted} serves: texts do without it."
    return [problem("W013", message, f"Run: python manage.py train_embedding {field.label} --text", field)]
