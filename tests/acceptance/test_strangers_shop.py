"""An existing shop in a folder of its own gets visual search, by the quickstart's steps and nothing else."""

import hashlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from PIL import Image, ImageEnhance
from psycopg import sql

from .. import docs
from ..conftest import missing_service, picture
from ..startup import STARTUP

SHARED = Path(__file__).resolve().parents[3] / "shared"
WEIGHTS = SHARED / "weights/keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
GROCERY = SHARED / "data/grocery/iconic-images-and-descriptions"
PRODUCTS = 12
NO_ISSUES = "System check identified no issues (0 silenced).\n"

BEFORE = """
from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=100)
    image = models.ImageField(upload_to="products")
"""

CARD = """
def card(product, request):
    return {"price": f"{product.pk} EUR", "sold_out": False}
"""

FILL = """
from django.core.files import File
from shop.models import Product

for number in {numbers}:
    with open(f"pictures/{{number}}.jpg", "rb") as file:
        Product.objects.create(name=f"product {{number}}", image=File(file, name=f"{{number}}.jpg"))
"""

WAIT = """
import time
end = time.monotonic() + 120
while Product.objects.filter(embedding=None).exists() and time.monotonic() < end:
    time.sleep(0.1)
"""

VISIT = """
from django.test import Client, RequestFactory
from django_visual_search.views import PhotoSearchView

class PhotoSearch(PhotoSearchView):
    label = "shop.Product"

visitor = Client(headers={"host": "localhost", "x-real-ip": "203.0.113.5"})
similar = visitor.get("/visual-search/shop/product/1/similar/?limit=5").json()
print("similar", len(similar["results"]), similar["results"][0]["rank"])
with open("photo.jpg", "rb") as photo:
    page = visitor.post("/visual-search/photo/shop/product/", {"image": photo})
print("page", page.status_code, "product 3" in page.content.decode())
with open("photo.jpg", "rb") as photo:
    request = RequestFactory(headers={"host": "localhost", "x-real-ip": "203.0.113.5"}).post("/", {"image": photo})
request._dont_enforce_csrf_checks = True
page = PhotoSearch.as_view()(request)
print("view", page.status_code, "product 3" in page.content.decode())
"""


class Shop:
    """A bare Django project, and what its owner does at a command line."""

    has_worker = False

    def __init__(self, folder, database):
        self.folder = folder
        self.command("django-admin startproject proj .")
        self.command("python manage.py startapp shop")
        self.append(
            "proj/settings.py",
            f"INSTALLED_APPS += ['shop']\nDATABASES = {{'default': {database!r}}}\n",
        )
        self.write("shop/models.py", BEFORE)
        self.command("python manage.py makemigrations shop")
        self.command("python manage.py migrate")
        (folder / "pictures").mkdir()
        for number in range(PRODUCTS + 1):
            (folder / "pictures" / f"{number}.jpg").write_bytes(picture(number, size=300))

    def write(self, path, text):
        (self.folder / path).write_text(text)

    def append(self, path, text):
        with (self.folder / path).open("a") as file:
            file.write(f"\n{text}")

    def configure(self, text):
        """Add settings; keys of VISUAL_SEARCH that they leave out stay."""
        self.append(
            "proj/settings.py",
            f"before = globals().get('VISUAL_SEARCH', {{}})\n{text}\nVISUAL_SEARCH = {{**before, **VISUAL_SEARCH}}\n",
        )

    @property
    def environment(self):
        # Without a worker there is no broker either: nobody listens on that port.
        broker = {} if self.has_worker else {"CELERY_BROKER_URL": "amqp://127.0.0.1:1//"}
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "PYTHONPATH": STARTUP, **broker}

    def arguments(self, line):
        program, *rest = shlex.split(line)
        module = {"django-admin": ["-m", "django"], "python": [], "celery": ["-m", "celery"]}[program]
        return [sys.executable, *module, *rest]

    def command(self, line, stdin=""):
        """What a command prints; it must succeed."""
        done = subprocess.run(
            self.arguments(line),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.complaints = done.stderr
        return done.stdout

    def shell(self, program):
        return self.command("python manage.py shell -v 0", stdin=program)

    def take_photo(self, number, name="photo.jpg"):
        """A photo: that product's picture, smaller, darker and badly compressed."""
        picture = Image.open(self.folder / "pictures" / f"{number}.jpg").convert("RGB").resize((200, 200))
        ImageEnhance.Brightness(picture).enhance(0.9).save(self.folder / name, quality=60)

    def search(self, *numbers, first=""):
        """The lines that the quickstart's search prints: those of a product's photo, and those of the first product.

        For each number, in one shell, after the program ``first``.
        """
        (program,) = (text for path, text in docs.files(docs.QUICKSTART) if path == "manage.py shell")
        for number in numbers:
            self.take_photo(number, f"photo-{number}.jpg")
        programs = [f"import os; os.replace('photo-{number}.jpg', 'photo.jpg')\n{program}" for number in numbers]
        lines = self.shell("\n".join([first, *programs])).splitlines()
        assert all(re.fullmatch(r"[1-5]\. product \d+ -?[01]\.\d{3}", line) for line in lines), lines
        assert len(lines) == 10 * len(numbers)
        return [(lines[at : at + 5], lines[at + 5 : at + 10]) for at in range(0, len(lines), 10)]


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker):
    """A new database on the embedded server, as an entry of DATABASES."""
    with django_db_blocker.unblock():
        connection.ensure_connection()
        entry = {key: connection.settings_dict[key] for key in ("ENGINE", "USER", "HOST", "PORT")}
    name = f"stranger_{uuid.uuid4().hex[:12]}"
    admin = {"host": entry["HOST"], "port": entry["PORT"], "user": entry["USER"], "dbname": "postgres"}
    with psycopg.connect(**admin, autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield {**entry, "NAME": name}
    with psycopg.connect(**admin, autocommit=True) as session:
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def shop(server, tmp_path_factory):
    """The shop after the quickstart's steps 2 to 5, with a catalogue that was there before them."""
    shop = Shop(tmp_path_factory.mktemp("stranger"), server)
    shop.shell(FILL.format(numbers=f"range({PRODUCTS})"))
    for path, text in docs.files(docs.QUICKSTART):
        if path == "proj/settings.py":
            shop.append(path, text)
        elif path == "shop/models.py":
            shop.write(path, text)
    install, columns, embed = docs.blocks(docs.QUICKSTART, "bash")
    assert install.startswith("python -m pip install ")
    shop.output = [(shop.command(line), shop.complaints) for line in (*columns.splitlines(), *embed.splitlines())]
    return shop


@pytest.mark.timeout(600)
class TestStrangersShop:
    def test_the_steps_say_that_all_is_well(self, shop):
        (made, _), (migrated, complaints), (checked, _), (embedded, _) = shop.output
        assert "+ Add field embedding to product" in made
        assert "Applying django_visual_search.0001_initial... OK" in migrated
        assert complaints == ""
        assert checked == NO_ISSUES
        assert f"shop.Product.embedding: {PRODUCTS} done, 0 skipped, 0 cleared, 0 refused, 0 failed" in embedded
        assert shop.command("python manage.py check") == NO_ISSUES

    def test_its_migrations_do_not_need_this_app(self, shop):
        text = "".join(file.read_text() for file in (shop.folder / "shop" / "migrations").glob("0*.py"))
        assert "pgvector.django" in text
        assert "visual_search" not in text
        assert shop.command("python manage.py makemigrations --check --dry-run") == "No changes detected\n"

    def test_a_photo_is_answered(self, shop):
        [(by_photo, similar)] = shop.search(3)
        assert by_photo[0].startswith("1. product 3 ")
        assert all("product 0 " not in line for line in similar), "a product is not similar to itself"

    def test_reindexing_again_has_nothing_to_do(self, shop):
        again = shop.command("python manage.py reindex_embeddings --sync")
        assert f"shop.Product.embedding: 0 of {PRODUCTS} pictures to embed" in again

    def test_with_celery_a_new_product_is_found_by_itself(self, shop):
        try:
            socket.create_connection(("127.0.0.1", 6379), 1).close()
        except OSError:
            missing_service("no Redis answers on port 6379")
        for path, text in docs.files(docs.CELERY):
            # A database of the broker that nobody else uses here
            text = text.replace("localhost:6379/0", "localhost:6379/13")
            if (shop.folder / path).exists():
                shop.append(path, text)
            else:
                shop.write(path, text)
        shop.has_worker = True
        assert shop.command("python manage.py check") == NO_ISSUES
        (line,) = docs.blocks(docs.CELERY, "bash")
        with (shop.folder / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                shop.arguments(line), cwd=shop.folder, env=shop.environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            [(by_photo, _)] = shop.search(PRODUCTS, first=FILL.format(numbers=f"[{PRODUCTS}]") + WAIT)
            assert worker.poll() is None
            assert by_photo[0].startswith(f"1. product {PRODUCTS} "), (shop.folder / "worker.log").read_text()
        finally:
            worker.terminate()
            worker.wait(30)
            shop.command("celery -A proj purge -f -Q visual_search")
            shop.has_worker = False

    def test_pages_and_api(self, shop):
        for page in ("templates", "proxy"):
            for path, text in docs.files(docs.FOLDER / f"howto/{page}.md"):
                if path == "proj/settings.py":
                    shop.configure(text)
                elif path == "shop/cards.py":  # with columns that this shop has
                    shop.write(path, CARD)
                else:
                    shop.append(path, text.replace("filter(is_published=True)", "all()"))
        assert shop.command("python manage.py check") == NO_ISSUES
        shop.take_photo(3)
        assert shop.shell(VISIT).splitlines() == ["similar 5 1", "page 200 True", "view 200 True"]

    def test_with_a_network(self, shop):
        for path in (WEIGHTS, GROCERY):
            if not path.exists():
                pytest.skip(f"there is no {path}")
        photos = sorted(GROCERY.rglob("*.jpg"))[::8]
        numbers = range(100, 100 + len(photos))
        for number, photo in zip(numbers, photos, strict=True):
            shutil.copy(photo, shop.folder / "pictures" / f"{number}.jpg")
        shop.shell(FILL.format(numbers=f"{numbers!r}"))
        options = {
            "application": "MobileNetV2",
            "application_kwargs": {"alpha": 0.35},
            "weights": str(WEIGHTS),
            "weights_sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        }
        (network,) = (text for text in docs.blocks(docs.EXTRACTORS, "python") if "KerasExtractor" in text)
        shop.configure(network)
        shop.append("proj/settings.py", f'VISUAL_SEARCH["EXTRACTORS"]["default"]["OPTIONS"] = {options!r}\n')
        shop.command("python manage.py check --database default")
        assert "(visual_search.W002)" in shop.complaints, "there is no exported model yet"
        embedded = shop.command("python manage.py reindex_embeddings --sync")
        assert re.search(r"shop\.Product\.embedding: \d+ done, 0 skipped, 0 cleared, 0 refused, 0 failed", embedded)
        assert shop.command("python manage.py check --database default") == NO_ISSUES
        for number, (by_photo, _) in zip(numbers[::4], shop.search(*numbers[::4]), strict=True):
            assert by_photo[0].startswith(f"1. product {number} ")
