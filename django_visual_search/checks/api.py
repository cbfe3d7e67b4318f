"""System checks of the API: who may see what at the addresses that are included, and its limits."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.core import checks
from django.urls import get_resolver

from ..conf import DEFAULTS
from ..fields.registry import embedding_fields
from .settings import check_keys

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


def _error(number: int, message: str, hint: str) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, id=f"visual_search.E{number:03}")
