"""System checks of the ``VISUAL_SEARCH`` setting, of Celery's broker settings and of Pillow."""

from __future__ import annotations

import difflib
from typing import Any

import PIL
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from ..conf import DEFAULTS

PILLOW = 13
"""Major version whose decoders the limits in ``images.py`` were tried against."""


def check_keys() -> list[checks.CheckMessage]:
    """``VISUAL_SEARCH`` is a dictionary of known keys, and what must be a dictionary in it is one."""
    user = getattr(settings, "VISUAL_SEARCH", {})
    if not isinstance(user, dict):
        hint = "Write VISUAL_SEARCH = {...}; the README lists its keys."
        return [_error(9, f"VISUAL_SEARCH is a {type(user).__name__}, not a dictionary.", hint)]
    messages = []
    for key in user.keys() - DEFAULTS.keys():
        near = difflib.get_close_matches(str(key).upper(), DEFAULTS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(DEFAULTS)}."
        messages.append(_error(9, f"VISUAL_SEARCH has the unknown key {key!r}.", hint))
    for key in ("EXTRACTORS", "VISIBLE"):
        if not isinstance(user.get(key, {}), dict):
            messages.append(
                _error(9, f"VISUAL_SEARCH[{key!r}] is a {type(user[key]).__name__}, not a dictionary.", _EXAMPLES[key])
            )
    return sorted(messages, key=lambda message: message.msg)


_EXAMPLES = {
    "EXTRACTORS": "Write 'EXTRACTORS': {'default': {'BACKEND': 'path.to.Extractor', 'OPTIONS': {...}}}.",
    "VISIBLE": "Write 'VISIBLE': {'app.Model': 'path.to.callable'}.",
}


def check_visible() -> list[checks.CheckMessage]:
    """Every key of ``VISIBLE`` is a model and every value a callable, or the dotted path of one."""
    messages = []
    for label, path in getattr(settings, "VISUAL_SEARCH", {}).get("VISIBLE", {}).items():
        try:
            apps.get_model(label)
        except (LookupError, ValueError, AttributeError, TypeError):
            hint = "Write the product's model as 'app.Model'."
            messages.append(
                _error(13, f"VISUAL_SEARCH['VISIBLE'] has {label!r}, which is not an installed model.", hint)
            )
        if problem := why_not_callable(path):
            messages.append(
                _error(
                    14,
                    f"VISUAL_SEARCH['VISIBLE'][{label!r}] is {path!r}: {problem}.",
                    "Give the dotted path of a function that takes the request and returns a queryset of the products.",
                )
            )
    return messages


def why_not_callable(path: Any) -> str | None:
    if callable(path):
        return None
    if not isinstance(path, str):
        return "it is neither a dotted path nor a callable"
    try:
        found = import_string(path)
    except Exception as e:  # the module may fail in any way
        return f"{type(e).__name__}: {e}"
    return None if callable(found) else "it is not callable"


def check_broker() -> list[checks.CheckMessage]:
    """Celery's Redis transport waits for ever for a silent broker unless it is told not to.

    What this app sends has limits of its own; the shop's other tasks, and the workers, have none.
    """
    from celery import current_app

    try:
        conf = current_app.conf
        url = str(conf.broker_write_url or conf.broker_url or "")
        eager, options = conf.task_always_eager, conf.broker_transport_options or {}
    except Exception:  # Celery itself says what is wrong with its settings, at its start
        return []
    if (
        eager
        or not url.startswith(("redis:", "rediss:", "redis+", "rediss+", "sentinel:"))
        or options.get("socket_timeout")
    ):
        return []
    return [
        checks.Warning(
            "Celery's Redis transport has no socket timeout: workers and senders wait for ever for a silent broker.",
            hint=(
                'Set CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2} '
                "(broker_transport_options of the Celery app)."
            ),
            id="visual_search.W006",
        )
    ]


def check_pillow(version: str = PIL.__version__) -> list[checks.CheckMessage]:
    """Customers' files go to Pillow's decoders, so they should be recent ones."""
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) >= PILLOW:
        return []
    return [
        checks.Warning(
            f"Pillow {version} is installed; its decoders read pictures that anybody may upload.",
            hint=f'Install a current one: python -m pip install --upgrade "pillow>={PILLOW}"',
            id="visual_search.W007",
        )
    ]


def _error(number: int, message: str, hint: str) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, id=f"visual_search.E{number:03}")
