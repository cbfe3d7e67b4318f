from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

from django_visual_search.db.extension import create_extension


def before_tables(using, **kwargs):
    create_extension(connections[using])  # the tests make all tables without migrations, which is faster
    with connections[using].cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS shelf")


def after_tables(using, **kwargs):
    with connections[using].cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE VIEW fieldshop_listed AS SELECT id, image FROM fieldshop_named WHERE key = 'x'"
        )


class FieldShopConfig(AppConfig):
    name = "tests.fieldshop"
    label = "fieldshop"

    def ready(self):
        pre_migrate.connect(before_tables)
        post_migrate.connect(after_tables, sender=self)
