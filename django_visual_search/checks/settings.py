"""System checks of the ``VISUAL_SEARCH`` setting, of Celery's broker and of Pillow.

A setting's type and range are checked by the rule in its declaration (``conf.SETTINGS``); here is what a rule can't
see: models, rankers, the project's URLs and its proxy.
"""

from __future__ import annotations

import difflib
from typing import Any

import PIL
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver

from ..conf import DEFAULTS, SETTINGS, conf
from ..conf.rules import visible_function
from ..fields.checks import problem
from ..fields.registry import embedding_fields
from ..ranking.rankers import load_ranker

PILLOW = 13
"""Major version whose decoders the limits of ``images`` were tried against."""


def check_keys() -> list[checks.CheckMessage]:
    """Report types and keys that keep the settings from being read."""
    user = getattr(settings, "VISUAL_SEARCH", {})
    if not isinstance(user, dict):
        hint = "Write VISUAL_SEARCH = {...}; the documentation lists its keys."
        return [problem("E009", f"VISUAL_SEARCH is a {type(user).__name__}, not a dictionary.", hint)]
    messages = []
    for key in sorted(user.keys() - SETTINGS.keys(), key=str):
        near = difflib.get_close_matches(str(key).upper(), SETTINGS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(SETTINGS)}."
        messages.append(problem("E009", f"VISUAL_SEARCH has the unknown key {key!r}.", hint))
    return messages + [message for message in _broken_rules() if message.id == "visual_search.E009"]


def check_values() -> list[checks.CheckMessage]:
    """Report the settings that break their rules, except those that ``check_keys`` reports."""
    return [message for message in _broken_rules() if message.id != "visual_search.E009"]


def _broken_rules() -> list[checks.CheckMessage]:
    user = getattr(settings, "VISUAL_SEARCH", {})
    messages = []
    for name, setting in SETTINGS.items():
        fault = setting.rule.fault(user[name]) if name in user else None
        if fault is not None:
            message = f"VISUAL_SEARCH[{name!r}] is {user[name]!r}{fault and ': '}{fault}."
            default = f"; the default is {setting.default}" if isinstance(setting.default, int | float | str) else ""
            hint = f"Write {setting.rule.words}{default}. {setting.sentence}"
            messages.append(problem(setting.check, message, hint))
    return messages


def check_visible() -> list[checks.CheckMessage]:
    """Report keys of ``VISIBLE`` that are not installed models, and values that can't be called."""
    messages = []
    for label, path in getattr(settings, "VISUAL_SEARCH", {}).get("VISIBLE", {}).items():
        model = None
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError, AttributeError, TypeError):
            hint = "Write the product's model as 'app.Model'."
            message = f"VISUAL_SEARCH['VISIBLE'] has {label!r}, which is not an installed model."
            messages.append(problem("E013", message, hint))
        is_name = isinstance(path, str) and "." not in path
        try:
            if model is not None or not is_name:
                visible_function(model, path)
        except ImproperlyConfigured as fault:
            hint = (
                "Give the dotted path of a function that takes the request and returns a queryset of the products, or "
                "the name of a method of the model's manager."
            )
            message = f"VISUAL_SEARCH['VISIBLE'][{label!r}] is {path!r}: {fault}."
            messages.append(problem("E014", message, hint))
    return messages


def check_rankers() -> list[checks.CheckMessage]:
    """Report entries of ``RANKING`` that can't be imported or are not rankers."""
    names = getattr(settings, "VISUAL_SEARCH", {}).get("RANKING", DEFAULTS["RANKING"])
    if not isinstance(names, list | tuple):
        return []
    return [
        problem("E015", f"VISUAL_SEARCH['RANKING'] has {name!r}: {fault}", f"Write {SETTINGS['RANKING'].rule.words}.")
        for name in names
        if (fault := _why_no_ranker(name))
    ]


def _why_no_ranker(name: Any) -> str | None:
    if not callable(name) and not isinstance(name, str):
        return "it is neither a dotted path nor a function."
    try:
        load_ranker(name)
    except ImproperlyConfigured as e:
        return str(e)
    except Exception as e:  # the module may fail in any way
        return f"{type(e).__name__}: {e}"
    return None


def check_included_urls(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where our URLs are included and can't show the products of a model that ``VISIBLE`` leaves out."""
    if not getattr(settings, "ROOT_URLCONF", None) or check_keys() or "visual_search" not in get_resolver().app_dict:
        return []
    named = {str(label).lower() for label in getattr(settings, "VISUAL_SEARCH", {}).get("VISIBLE", {})}
    messages = []
    for model in dict.fromkeys(field.product_model for field in embedding_fields()):
        ancestors = {parent._meta.label_lower for parent in model.__mro__ if hasattr(parent, "_meta")}
        if not ancestors & named:
            label = model._meta.label
            hint = (
                f"Set VISUAL_SEARCH['VISIBLE'][{label!r}] to the dotted path of a function that takes the request and "
                "returns a queryset of the products that the visitor may see, or to the name of a method of the "
                "model's manager, such as 'all'."
            )
            message = f"With DEBUG off, no {label} is shown: nobody has said which ones visitors may see."
            messages.append(problem("W008", message, hint))
    return messages


def check_thumbnail(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where cards and the admin would show the pictures as they were uploaded."""
    if check_keys() or conf.THUMBNAIL is not None or not embedding_fields():
        return []
    message = "Cards and the admin's lists show the pictures as they were uploaded, however large they are."
    hint = (
        "Set VISUAL_SEARCH['THUMBNAIL'] to the function for the package that makes your thumbnails, such as "
        "'django_visual_search.contrib.thumbnails.imagekit' (or sorl, easy_thumbnails, pictures, oscar, wagtail), or "
        "to one of your own that takes a picture and a size in pixels and returns a URL."
    )
    return [problem("W020", message, hint)]


def check_proxy() -> list[checks.CheckMessage]:
    """Warn where the project trusts a proxy's headers: without ``CLIENT_ADDRESS`` all visitors have its address."""
    names = [name for name in ("USE_X_FORWARDED_HOST", "SECURE_PROXY_SSL_HEADER") if getattr(settings, name, None)]
    if not names or getattr(settings, "VISUAL_SEARCH", {}).get("CLIENT_ADDRESS") is not None:
        return []
    message = f"All visitors look like one: {names[0]} says that a proxy is in front, whose address REMOTE_ADDR is."
    hint = (
        "Set VISUAL_SEARCH['CLIENT_ADDRESS'] to the dotted path of a function that takes the request and returns the "
        "visitor's IP address from the header that your proxy sets. Feedback and throttles count visitors by it."
    )
    return [problem("W010", message, hint)]


def check_broker() -> list[checks.CheckMessage]:
    """Warn where Celery's Redis transport would wait for ever for a silent broker.

    What this app sends has limits of its own; the shop's other tasks, and the workers, have none.
    """
    from celery import current_app

    try:
        conf = current_app.conf
        url = str(conf.broker_write_url or conf.broker_url or "")
        eager, options = conf.task_always_eager, conf.broker_transport_options or {}
    except Exception:  # Celery itself says what is wrong with its settings, at its start
        return []
    redis = url.startswith(("redis:", "rediss:", "redis+", "rediss+", "sentinel:"))
    if eager or not redis or options.get("socket_timeout"):
        return []
    message = "Celery's Redis transport has no socket timeout: workers and senders wait for ever for a silent broker."
    hint = (
        'Set CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2} '
        "(broker_transport_options of the Celery app)."
    )
    return [problem("W006", message, hint)]


def check_pillow(version: str = PIL.__version__) -> list[checks.CheckMessage]:
    """Warn of an old Pillow: its decoders read files that anybody may send."""
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) >= PILLOW:
        return []
    message = f"Pillow {version} is installed; its decoders read pictures that anybody may upload."
    hint = f'Install a current one: python -m pip install --upgrade "pillow>={PILLOW}"'
    return [problem("W007", message, hint)]
