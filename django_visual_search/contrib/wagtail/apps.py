"""The app, and its checks: of the order of apps, and of a field that finds images."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.utils.translation import gettext_lazy as _

from ...fields.checks import problem


class WagtailVisualSearchConfig(AppConfig):
    name = "django_visual_search.contrib.wagtail"
    label = "visual_search_wagtail"
    verbose_name = _("Visual search in Wagtail")

    def ready(self) -> None:
        checks.register(check_order_of_apps, "visual_search")
        checks.register(check_images_are_found, "visual_search")


def check_order_of_apps(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report an order of the apps in which Wagtail's template of an image's page hides ours."""
    names = [config.name for config in apps.get_app_configs()]
    ours = WagtailVisualSearchConfig.name
    if "wagtail.images" not in names[: names.index(ours)]:
        return []
    message = f"'wagtail.images' comes before {ours!r} in INSTALLED_APPS: an image's page shows no similar images."
    return [problem("W016", message, f"Put {ours!r} first in INSTALLED_APPS: its template extends Wagtail's.")]


def check_images_are_found(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report that no embedding field finds the project's images."""
    from .panels import field_of_images, image_model

    if field_of_images() is not None:
        return []
    label = image_model()._meta.label
    message = f"No embedding field finds {label}: Wagtail's pages show no similar images."
    hint = (
        f"Make a companion with image = OneToOneField({label!r}, CASCADE, primary_key=True) and "
        "embedding = EmbeddingField(source='image__file', product='image', crop='focal_point', dimensions=256)."
    )
    return [problem("W017", message, hint)]
