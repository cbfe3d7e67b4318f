"""The app: connected to Oscar's signals, in the menu of its dashboard, with the permissions of the pages there."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.urls import NoReverseMatch, path, reverse, reverse_lazy
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from oscar.core.application import OscarDashboardConfig

from ...fields.checks import problem
from . import NAMESPACE

PAGES = {
    "status": _("Dashboard"),
    "findability": _("Findability report"),
    "rules": capfirst(_("ranking rules")),
}
"""The pages in the menu, by the last part of the name of their URL."""


class OscarVisualSearchConfig(OscarDashboardConfig):  # type: ignore[misc] # mypy sees no types of Oscar
    name = "django_visual_search.contrib.oscar"
    default = True  # beside the class that is imported here
    label = namespace = NAMESPACE
    verbose_name = _("Visual search")
    login_url = reverse_lazy("dashboard:login")
    default_permissions = ["is_staff"]
    permissions_map = {
        f"visual-search-{page}": ["is_staff", f"django_visual_search.{permission}"]
        for page, permission in {
            "status": "view_dashboard",
            "findability": "view_findability",
            "rules": "view_rankingrule",
            "rule-create": "add_rankingrule",
            "rule-update": "change_rankingrule",
            "rule-delete": "delete_rankingrule",
        }.items()
    }

    def ready(self) -> None:
        from .feedback import connect_signals

        connect_signals()
        add_to_menu(settings.OSCAR_DASHBOARD_NAVIGATION)
        checks.register(check_order_of_apps, "visual_search")

    def get_urls(self) -> list[Any]:
        from . import dashboard

        urls = [
            path("", dashboard.StatusView.as_view(), name="visual-search-status"),
            path("findability/", dashboard.FindabilityView.as_view(), name="visual-search-findability"),
            path("rules/", dashboard.RuleListView.as_view(), name="visual-search-rules"),
            path("rules/create/", dashboard.RuleCreateView.as_view(), name="visual-search-rule-create"),
            path("rules/<int:pk>/", dashboard.RuleUpdateView.as_view(), name="visual-search-rule-update"),
            path("rules/<int:pk>/delete/", dashboard.RuleDeleteView.as_view(), name="visual-search-rule-delete"),
            # Where our cells of products link to: the name of the admin's page for a product, in this namespace.
            path("products/<str:pk>/", dashboard.ProductView.as_view(), name="catalogue_product_change"),
        ]
        return list(self.post_process_urls(urls))


def add_to_menu(menu: list[Any]) -> None:
    """Add our pages to the dashboard's menu, unless the shop has placed them there."""
    children = [
        {"label": label, "url_name": f"{NAMESPACE}:visual-search-{page}", "access_fn": may_open}
        for page, label in PAGES.items()
    ]
    placed = {child.get("url_name") for entry in menu for child in (entry, *entry.get("children", []))}
    if children[0]["url_name"] not in placed:
        menu.append({"label": _("Visual search"), "icon": "fas fa-camera", "children": children})


def may_open(user: Any, url_name: str, *args: Any) -> bool:
    """Return whether the menu shows one of our pages: the shop includes our URLs, and the user may open it."""
    from oscar.views.decorators import check_permissions

    try:
        reverse(url_name)
    except NoReverseMatch:
        return False
    return bool(check_permissions(user, apps.get_app_config(NAMESPACE).get_permissions(url_name)))


HIDING = ("oscar", "django_visual_search")
"""Apps with templates of the same names as ours."""


def hiding(names: list[str]) -> list[str]:
    """Return the apps before ours in INSTALLED_APPS whose templates hide ours."""
    return [name for name in names[: names.index(OscarVisualSearchConfig.name)] if name in HIDING]


def check_order_of_apps(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report an order of the apps in which the templates of others hide ours."""
    before = hiding([config.name for config in apps.get_app_configs()])
    if not before:
        return []
    message = f"{before[0]!r} comes before {OscarVisualSearchConfig.name!r} in INSTALLED_APPS, so it hides templates."
    hint = f"Put {OscarVisualSearchConfig.name!r} first in INSTALLED_APPS: its templates extend those of the others."
    return [problem("W014", message, hint)]
