"""Counts of very large tables: what took long is not asked again at once, however often the page is loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache

SLOW_SECONDS = 0.5
KEPT_TIMES = 20
"""What took so long is kept for so many times as long."""


def kept_if_slow(key: str, count: Callable[[], Any]) -> Any:
    """What ``count`` returns; from Django's cache where counting took more than SLOW_SECONDS a moment ago."""
    key = f"django_visual_search.{key}"
    known = cache.get(key)
    if known is not None:
        return known
    started = time.monotonic()
    value = count()
    seconds = time.monotonic() - started
    if seconds > SLOW_SECONDS:
        cache.set(key, value, seconds * KEPT_TIMES)
    return value
