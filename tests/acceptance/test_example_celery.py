"""The example with a broker (a worker for the queue, the beat schedule) and without one."""

import time

import pytest

from ..conftest import picture
from ..example import Example, example  # noqa: F401
from ..processes import REDIS, forget_queue, need

SAVE = """
from pathlib import Path
from django.core.files.base import ContentFile
from example_project.shop.models import *
category, _ = Category.objects.get_or_create(name="C", slug="c")
brand, _ = Brand.objects.get_or_create(name="B", slug="b")
product = Product(name="P", slug="{sku}", sku="{sku}", category=category, brand=brand, price=1)
product.image.save("{sku}.jpg", ContentFile(Path("{file}").read_bytes()))
product.refresh_from_db()
print(product.embedding is not None)
"""
HAS = "from example_project.shop.models import *; print(Product.objects.get(sku='{sku}').embedding is not None)"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture(5))
    return path


@pytest.mark.services
def test_worker_and_beat(example, file):  # noqa: F811
    need(REDIS)
    example.environment |= {"CELERY_BROKER_URL": REDIS, "DJANGO_SETTINGS_MODULE": "tests.strict_example"}
    example.migrate()
    # Saved while no worker runs, the product waits in the queue
    assert example.python(SAVE.format(sku="one", file=file)) == "False"
    # Inserted without a signal: only the sweep finds it
    example.python(
        "from example_project.shop.models import *; p = Product.objects.get(sku='one'); image = p.image.name;"
        "Product.objects.bulk_create([Product(name='Q', slug='two', sku='two', category=p.category, brand=p.brand,"
        " price=1, image=image)])"
    )
    with example.worker("-B", "-c", "2") as log:
        end = time.monotonic() + 90
        for sku in ("one", "two"):
            while example.python(HAS.format(sku=sku)) != "True":
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
        assert "django_visual_search.sweep" in log.read_text()
    forget_queue(example.folder.name, REDIS)


def test_without_a_broker_tasks_run_inline_after_commit(example, file):  # noqa: F811
    shop = Example(example.folder)  # the same shop, without the broker
    try:
        shop.migrate()
        assert shop.python(SAVE.format(sku="inline", file=file)) == "True"
    finally:
        shop.close()


@pytest.mark.parametrize(
    ("url", "option"),
    [("redis://h/0", "socket_timeout"), ("rediss://h/0", "socket_timeout"), ("amqp://h", "read_timeout")],
)
def test_options_of_the_broker_have_timeouts(tmp_path, url, option):
    shop = Example(tmp_path, CELERY_BROKER_URL=url, DATABASE_URL="postgres://nowhere/shop")
    program = "from example_project import settings; print(settings.CELERY_BROKER_TRANSPORT_OPTIONS)"
    with shop.start("-c", program) as process:
        assert option in process.communicate(timeout=60)[0]
