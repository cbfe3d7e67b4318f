"""System checks of the ``VISUAL_SEARCH`` setting, of Celery's broker settings and of Pillow.

System checks of what ``VISUAL_SEARCH`` says about ranking.

System checks of what ``VISUAL_SEARCH`` says about feedback.

System checks of the API: who may see what at the addresses that are included, and its limits.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

import PIL
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver
from django.utils.module_loading import import_string

from ..conf import DEFAULTS
from ..feedback.sessions import LONGEST_PERIOD
from ..fields.registry import embedding_fields
from ..ranking.rankers import load_ranker

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


BOUNDS = {
    "FEEDBACK_WEIGHT": ("at least 0 and below 1", lambda number: 0 <= number < 1),
    "HALF_LIFE_DAYS": ("above 0", lambda number: 0 < number < math.inf),
    "POSITION_BIAS": ("at least 0", lambda number: 0 <= number < math.inf),
}


def check_ranking() -> list[checks.CheckMessage]:
    """``RANKING`` lists rankers, and the numbers that they use are within bounds."""
    user = getattr(settings, "VISUAL_SEARCH", {})
    messages = []
    for key, (words, fits) in BOUNDS.items():
        number = user.get(key, DEFAULTS[key])
        if isinstance(number, bool) or not isinstance(number, int | float) or not fits(number):
            hint = f"Write a number {words}; the default is {DEFAULTS[key]}."
            messages.append(_error(16, f"VISUAL_SEARCH[{key!r}] is {number!r}.", hint))
    hint = 'Write dotted paths of functions, such as ["django_visual_search.ranking.feedback"], or [] for none.'
    names = user.get("RANKING", DEFAULTS["RANKING"])
    if not isinstance(names, list | tuple):
        messages.append(_error(15, f"VISUAL_SEARCH['RANKING'] is a {type(names).__name__}, not a list.", hint))
        return messages
    for name in names:
        if problem := _why_no_ranker(name):
            messages.append(_error(15, f"VISUAL_SEARCH['RANKING'] has {name!r}: {problem}", hint))
    return messages


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


def check_feedback() -> list[checks.CheckMessage]:
    """Days are whole numbers of days, and ``CLIENT_ADDRESS`` is a callable, or the dotted path of one."""
    user = getattr(settings, "VISUAL_SEARCH", {})
    messages = []
    for key, most in (("FEEDBACK_DAYS", None), ("SESSION_DAYS", LONGEST_PERIOD)):
        days: Any = user.get(key, DEFAULTS[key])
        if isinstance(days, bool) or not isinstance(days, int) or days < 1 or (most and days > most):
            bounds = f"from 1 to {most}" if most else "of at least 1"
            hint = f"Write a whole number {bounds}; the default is {DEFAULTS[key]}."
            messages.append(_error(17, f"VISUAL_SEARCH[{key!r}] is {days!r}.", hint))
    function = user.get("CLIENT_ADDRESS")
    if function is not None and (problem := why_not_callable(function)):
        hint = "Give the dotted path of a function that takes the request and returns the visitor's IP address."
        messages.append(_error(18, f"VISUAL_SEARCH['CLIENT_ADDRESS'] is {function!r}: {problem}.", hint))
    return messages


RATE = re.compile(r"[1-9][0-9]*/(s|sec|second|m|min|minute|h|hour|d|day)")


def check_limits() -> list[checks.CheckMessage]:
    """``THROTTLE_RATES`` has known kinds and rates that can be read, and photos may be searched by at all."""
    user = getattr(settings, "VISUAL_SEARCH", {})
    rates = user.get("THROTTLE_RATES", {})
    messages = []
    if not isinstance(rates, dict) or any(_is_wrong(kind, rate) for kind, rate in rates.items()):
        kinds = ", ".join(DEFAULTS["THROTTLE_RATES"])
        hint = f"Write rates such as '30/min', or None for no limit, for any of: {kinds}."
        messages.append(_error(19, f"VISUAL_SEARCH['THROTTLE_RATES'] is {rates!r}.", hint))
    for key in ("PHOTO_SEARCHES_AT_ONCE", "PAGE_DEPTH"):
        most = user.get(key, DEFAULTS[key])
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            hint = f"Write a whole number of at least 1; the default is {DEFAULTS[key]}."
            messages.append(_error(20, f"VISUAL_SEARCH[{key!r}] is {most!r}.", hint))
    return messages


def check_included_urls(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Where our addresses are included, anybody may ask for every product of a model that ``VISIBLE`` doesn't name."""
    if not getattr(settings, "ROOT_URLCONF", None) or check_keys() or "visual_search" not in get_resolver().app_dict:
        return []
    named = {str(label).lower() for label in getattr(settings, "VISUAL_SEARCH", {}).get("VISIBLE", {})}
    messages: list[checks.CheckMessage] = []
    for model in dict.fromkeys(field.product_model for field in embedding_fields()):
        ancestors = {parent._meta.label_lower for parent in model.__mro__ if hasattr(parent, "_meta")}
        if not ancestors & named:
            label = model._meta.label
            messages.append(
                checks.Warning(
                    f"Everybody may see every {label} at the addresses of django_visual_search.urls.",
                    hint=(
                        f"Set VISUAL_SEARCH['VISIBLE'][{label!r}] to the dotted path of a function that takes the "
                        "request and returns a queryset of the products that it may see."
                    ),
                    id="visual_search.W008",
                )
            )
    return messages


def _is_wrong(kind: Any, rate: Any) -> bool:
    if kind not in DEFAULTS["THROTTLE_RATES"]:
        return True
    return rate is not None and not (isinstance(rate, str) and RATE.fullmatch(rate))
