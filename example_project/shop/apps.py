from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ShopConfig(AppConfig):
    name = "example_project.shop"
    label = "shop"
    verbose_name = _("Shop")

    def ready(self) -> None:
        # Binds tasks to the shop's Celery application in web processes and commands too. Not in the package's __init__,
        # so that importing example_project.embedded_postgres stays cheap.
        from example_project import celery  # noqa: F401
