"""System checks of what ``VISUAL_SEARCH`` says about ranking."""

from __future__ import annotations

import math
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from ..conf import DEFAULTS
from ..ranking.loading import load_ranker

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


def _error(number: int, message: str, hint: str) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, id=f"visual_search.E{number:03}")
