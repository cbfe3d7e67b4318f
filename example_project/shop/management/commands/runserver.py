from django.conf import settings
from django.contrib.staticfiles.management.commands.runserver import Command as StaticRunserver


class Command(StaticRunserver):
    def on_bind(self, server_port: int) -> None:
        super().on_bind(server_port)
        if settings.CELERY_TASK_ALWAYS_EAGER:
            self.stdout.write(
                "No CELERY_BROKER_URL: pictures are embedded inline, right after the commit that saves them."
            )
