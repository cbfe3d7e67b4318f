"""The values that a setting may have: ``SettingRule``, and functions that build rules."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string


class SettingRule(NamedTuple):
    """The values that a setting may have."""

    words: str
    """Completes the sentence "Write …"."""
    fault: Callable[[Any], str | None]
    """Returns None for a value that fits, else its fault; empty if ``words`` say enough."""


def whole_number(least: int, most: int | None = None) -> SettingRule:
    words = f"a whole number from {least} to {most}" if most else f"a whole number of at least {least}"
    return rule_where(words, lambda value: _is_a(int, value) and least <= value <= (most or math.inf))


def number(words: str, fits: Callable[[float], bool]) -> SettingRule:
    return rule_where(
        f"a number {words}", lambda value: _is_a(int | float, value) and -math.inf < value < math.inf and fits(value)
    )


def text(words: str, pattern: str = ".+") -> SettingRule:
    return rule_where(words, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)))


def or_none(rule: SettingRule) -> SettingRule:
    return SettingRule(f"{rule.words}, or None", lambda value: None if value is None else rule.fault(value))


def _is_a(kind: Any, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def rule_where(words: str, fits: Callable[[Any], bool]) -> SettingRule:
    return SettingRule(words, lambda value: None if fits(value) else "")


def instance_of(words: str, noun: str, *types: type) -> SettingRule:
    def fault(value: Any) -> str | None:
        return None if isinstance(value, types) else f"it is a {type(value).__name__}, not a {noun}"

    return SettingRule(words, fault)


def why_not_callable(value: Any) -> str | None:
    """Return why ``value`` is neither a callable nor the dotted path of one, or None. Imports the path's module."""
    if callable(value):
        return None
    if not isinstance(value, str):
        return "it is neither a dotted path nor a callable"
    try:
        found = import_string(value)
    except Exception as e:  # the module may fail in any way
        return f"{type(e).__name__}: {e}"
    return None if callable(found) else "it is not callable"


def why_no_detector(value: Any) -> str | None:
    """Return why ``value`` is neither a callable, as ``why_not_callable`` says, nor the files of a model, or None."""
    if not isinstance(value, dict):
        return why_not_callable(value)
    if unknown := sorted(value.keys() - {"MODEL", "LABELS", "LEAST_SCORE"}, key=str):
        return f"it has the unknown key {unknown[0]!r}"
    for key in ("MODEL", "LABELS"):
        if not isinstance(value.get(key), str | os.PathLike):
            return f"its {key!r} is not the path of a file"
        if not os.path.isfile(value[key]):
            return f"there is no file {os.fspath(value[key])!r}"
    least = value.get("LEAST_SCORE", 0)
    return None if _is_a(int | float, least) and 0 <= least <= 1 else "its 'LEAST_SCORE' is not a number from 0 to 1"


def visible_function(model: Any, entry: Any) -> Callable[[Any], Any]:
    """Return the function of the request that an entry of ``VISIBLE`` for this model stands for.

    ``entry``: a function, its dotted path, or the name of a method of the model's managers or their querysets, which is
    called with the request if it has a parameter ``request``. Raises ImproperlyConfigured for any other value.
    """
    if callable(entry):
        return entry
    if not isinstance(entry, str):
        raise ImproperlyConfigured("it is neither a function, nor its dotted path, nor the name of a manager's method")
    if "." in entry:
        try:
            found = import_string(entry)
        except Exception as e:  # the module may fail in any way
            raise ImproperlyConfigured(f"{type(e).__name__}: {e}") from e
        if not callable(found):
            raise ImproperlyConfigured("it is not callable")
        return found
    managers = [model._default_manager, *model._meta.managers]
    for owner in (*managers, *(manager.all() for manager in managers)):
        if callable(getattr(owner, entry, None)):
            return functools.partial(_call_by_name, owner, entry)
    raise ImproperlyConfigured(f"the managers of {model._meta.label} have no method of that name")


def _call_by_name(owner: Any, name: str, request: Any) -> Any:
    method = getattr(owner, name)
    return method(request=request) if "request" in inspect.signature(method).parameters else method()


RATES = {"similar": "240/min", "photo": "30/min", "text": "120/min", "feedback": "120/min"}
RATE = re.compile(r"[1-9][0-9]*/(s|sec|second|m|min|minute|h|hour|d|day)")


def are_rates(value: Any) -> bool:
    return isinstance(value, dict) and all(
        kind in RATES and (rate is None or (isinstance(rate, str) and RATE.fullmatch(rate)))
        for kind, rate in value.items()
    )


STOREFRONT_KEYS = {"FACETS": (list, tuple), "PRICE": str, "NEWEST": str}


def are_storefronts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(model, str)
        and isinstance(offer, dict)
        and all(isinstance(entry, STOREFRONT_KEYS.get(key, ())) for key, entry in offer.items())  # type: ignore[arg-type]
        and all(_is_a(str, path) for path in offer.get("FACETS", ()))
        for model, offer in value.items()
    )


def are_text_fields(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(model, str) and isinstance(paths, list | tuple) and paths and all(_is_a(str, path) for path in paths)
        for model, paths in value.items()
    )


def are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_a(str, name) for name in value)


LONGEST_PERIOD = 366
"""Most that ``SESSION_DAYS`` may be."""

SWITCH = rule_where("True or False", lambda value: value in (True, False))  # 1 and 0 too, as environments give them
FUNCTION = SettingRule("a function or its dotted path", why_not_callable)
POSITIVE = number("above 0", lambda value: value > 0)
