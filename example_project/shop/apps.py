from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "example_project.shop"
    label = "shop"

    def ready(self) -> None:
        # Here rather than in the package's __init__, so that importing example_project.embedded_postgres stays cheap.
        # Tasks bind to this application in web processes and commands too.
        from example_project import celery  # noqa: F401
