"""System checks of what ``VISUAL_SEARCH`` says about feedback."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from ..conf import DEFAULTS
from ..feedback.sessions import LONGEST_PERIOD
from .settings import why_not_callable


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


def _error(number: int, message: str, hint: str) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, id=f"visual_search.E{number:03}")
