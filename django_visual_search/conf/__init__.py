"""The settings: one dictionary, ``VISUAL_SEARCH``, read lazily over its defaults.

Entry: ``conf.NAME`` is a setting's value. ``SETTINGS`` declares each one once: default, *rule*, sentence. The system
checks and the documentation's table come from it. May import: Django, nothing of this app.
"""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

from .declared import DEFAULTS, SETTINGS, settings_table

__all__ = ["DEFAULTS", "SETTINGS", "Settings", "conf", "settings_table"]


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
                f"VISUAL_SEARCH has unknown keys: {', '.join(unknown)}. Its keys are {', '.join(sorted(DEFAULTS))}."
            )
        value = user.get(name, DEFAULTS[name])
        self.__dict__[name] = value
        return value

    @property
    def decoders(self) -> int:
        """Number of decoder processes."""
        return self.DECODERS or min(4, os.cpu_count() or 1)


conf = Settings()


@receiver(setting_changed)
def reset_settings(*, setting: str, **kwargs: Any) -> None:
    if setting == "VISUAL_SEARCH":
        conf.__dict__.clear()
