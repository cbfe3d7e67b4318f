"""The ``VISUAL_SEARCH`` setting: one dictionary, read lazily over these defaults, reset when a test changes it."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

DEFAULTS: dict[str, Any] = {
    "EXTRACTORS": {
        "default": {
            "BACKEND": "django_visual_search.extractors.keras.KerasExtractor",
            "OPTIONS": {"application": "EfficientNetV2B0", "weights": "imagenet"},
        }
    },
    "VISIBLE": {},
    "THUMBNAIL": None,  # callable(picture, size in pixels) -> URL; None: the picture's own URL
    "QUEUE": "visual_search",
    # Indexing
    "BATCH_SIZE": 64,
    "MAX_ATTEMPTS": 3,
    "LEASE_SECONDS": 60,
    "SWEEP_SECONDS": 30,
    "DECODERS": None,  # processes that decode pictures; None: one per core, four at most
    "DECODE_SECONDS": 20,
    "DECODE_MEMORY_MB": 1024,
    "PUBLISH_SECONDS": 0.4,
    "MAINTENANCE_WORK_MEM": "512MB",
    "FEATURE_CACHE_ROWS": 200_000,  # pictures per field whose backbone features are kept; 0: none
    # Where exported models are cached on this machine's disk; None: a folder in the user's cache directory
    "CACHE_DIR": None,
    # Search
    "MAX_LIMIT": 1000,
    "EXACT_ROWS": None,  # rows up to which a search compares one by one; None: where that is cheaper, 5000 at most
    "EF_SEARCH": 100,
    "MAX_SCAN_TUPLES": 20000,
    "MIN_CONFIDENCE": None,  # of hits on photo search pages, 0 to 1, once confidence was learned; None: all are shown
    # Ranking
    "RANKING": ["django_visual_search.ranking.feedback", "django_visual_search.ranking.merchandise"],
    "RANKING_DEPTH": 100,
    "FEEDBACK_WEIGHT": 0.5,  # how far feedback moves a hit: its distance is multiplied by 1 - w to 1 + w
    "HALF_LIFE_DAYS": 30,
    "POSITION_BIAS": 1.0,  # the chance that rank r is looked at is r to the power of minus this
    # Feedback
    "FEEDBACK_DAYS": 180,
    "SESSION_DAYS": 1,
    "LOG_SEARCHES": True,
    "LOG_VECTORS": False,
    "CLIENT_ADDRESS": None,  # callable(request) -> the visitor's IP address; None: REMOTE_ADDR
    # API
    "PAGE_DEPTH": 100,
    "PHOTO_SEARCHES_AT_ONCE": 1,
    "THROTTLE_RATES": {"similar": "240/min", "photo": "30/min", "feedback": "120/min"},
}


class Settings:
    """Attribute access to ``settings.VISUAL_SEARCH`` over ``DEFAULTS``."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(name)
        user = getattr(settings, "VISUAL_SEARCH", {})
        if not isinstance(user, dict):
            raise ImproperlyConfigured("VISUAL_SEARCH must be a dictionary.")
        unknown = sorted(set(user) - set(DEFAULTS))
        if unknown:
            raise ImproperlyConfigured(
                f"VISUAL_SEARCH has unknown keys: {', '.join(unknown)}. Known keys: {', '.join(sorted(DEFAULTS))}."
            )
        value = user.get(name, DEFAULTS[name])
        self.__dict__[name] = value
        return value

    @property
    def decoders(self) -> int:
        return self.DECODERS or min(4, os.cpu_count() or 1)


conf = Settings()


@receiver(setting_changed)
def reset(*, setting: str, **kwargs: Any) -> None:
    if setting == "VISUAL_SEARCH":
        conf.__dict__.clear()
