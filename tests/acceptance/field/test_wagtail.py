"""A shop on Wagtail, made from nothing by what ``docs/howto/wagtail.md`` says, and driven in Chromium."""

import contextlib
import io
import json
import signal
import socket
import subprocess
import sys

import pytest
from PIL import Image, ImageDraw

pytest.importorskip("wagtail", reason="the extra 'field' is not installed")

from ... import docs
from ...browser import MOBILE, browser, follow, opened, shot, wider_than_the_window  # noqa: F401
from ...migrated import copy_tables
from ...processes import closed_port, until
from ...startup import STARTUP
from ..test_strangers_shop import NO_ISSUES, Shop, server  # noqa: F401

PAGE = docs.FOLDER / "howto/wagtail.md"
IMAGES = 6

# Twelve pages choose six images: two each. What a drawing shows goes by its number, so that 0 and 1 look alike.
FILL = """
import json
from django.contrib.auth.models import Group, Permission, User
from django.core.files.images import ImageFile
from wagtail.images.models import Image
from wagtail.models import Collection, GroupCollectionPermission, Page
from home.models import ProductPage

User.objects.create_superuser("boss", "boss@example.com", "boss")
root = Collection.get_first_root_node()
public, secret = root.add_child(name="Public"), root.add_child(name="Secret")
for number in range(6):
    with open(f"pictures/{number}.jpg", "rb") as file:
        Image.objects.create(
            title=f"image {number}", file=ImageFile(file, f"{number}.jpg"), collection=secret if number == 4 else public
        )
images = list(Image.objects.order_by("pk"))
home = Page.objects.get(slug="home")
for number in range(12):
    page = ProductPage(title=f"product {number}", slug=f"p{number}", photo=images[number % 6], live=number != 11)
    home.add_child(instance=page)
editors = Group.objects.create(name="Library")
for codename in ("choose_image", "change_image"):
    permission = Permission.objects.get(content_type__app_label="wagtailimages", codename=codename)
    GroupCollectionPermission.objects.create(group=editors, collection=public, permission=permission)
User.objects.create_user("editor").groups.add(editors)
User.objects.create_user("nobody")
"""

REINDEX = """
import io
from django.core.management import call_command

said, out = {}, io.StringIO()
call_command("reindex_embeddings", sync=True, stdout=out)
said["indexed"] = out.getvalue()
"""
LOOK = """
import json
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_visual_search import search
from django_visual_search.contrib.wagtail.apps import check_images_are_found
from django_visual_search.contrib.wagtail.panels import similar_images
from home.models import ProductPage
from wagtail.images.models import Image

first = ProductPage.objects.get(slug="p0")
visitor = Client(headers={"host": "localhost"})
said["similar"] = [hit.product.title for hit in search.similar_to(first, limit=11)]
visitor.get(first.url)
counts = []
for _ in range(2):
    with CaptureQueriesContext(connection) as queries:
        html = visitor.get(first.url).content.decode()
    counts.append(len(queries))
said["queries"], said["html"] = counts, html
with open("pictures/3.jpg", "rb") as photo:
    found = visitor.post("/visual-search/photo/home/productpage/", {"image": photo})
said["photo"] = found.status_code, "product 3" in found.content.decode()
image = Image.objects.get(title="image 0")
for name in ("boss", "editor", "nobody"):
    said[name] = [one.title for one in similar_images(image, User.objects.get(username=name))]
said["page"], said["image"] = first.pk, image.pk
call_command("rebuild_references_index", verbosity=0)
said["usage"] = image.get_usage().count()
for name, options in {"check": {}, "makemigrations": {"check_changes": True, "dry_run": True}}.items():
    out = io.StringIO()
    call_command(name, stdout=out, stderr=out, **options)
    said[name] = out.getvalue()
said["checks"] = [str(message) for message in check_images_are_found()]
print("said", json.dumps(said))
"""

EDIT = """
import io
import json
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from home.models import ProductPage, ProductPageEmbedding
from wagtail.images.models import Image

staff = Client(headers={"host": "localhost"})
staff.force_login(User.objects.get(username="boss"))
said = []


def image(number):
    return Image.objects.get(title=f"image {number}")


def edit(image, **changes):
    data = {"title": image.title, "collection": image.collection_id, "description": "", "tags": ""}
    answer = staff.post(reverse("wagtailimages:edit", args=[image.pk]), {**data, **changes})
    assert answer.status_code == 302, answer.content.decode()


def look():
    out = io.StringIO()
    call_command("reindex_embeddings", sync=True, stdout=out)
    found = {}
    for line in out.getvalue().splitlines():
        label, _, counts = line.partition(": ")
        if " done, " in counts:
            found[label.split(".")[1]] = [int(part.split()[0]) for part in counts.split(", ")[:3:2]]
    rows = ProductPageEmbedding.objects.order_by("page__title")
    keys = dict(rows.values_list("page__title", "embedding_key"))
    said.append([found["ProductPageEmbedding"], found["ImageEmbedding"], keys])


look()
edit(image(0), focal_point_x=150, focal_point_y=150, focal_point_width=100, focal_point_height=80)
look()
with open("pictures/6.jpg", "rb") as file:
    edit(image(1), file=file)
look()
page, draft = ProductPage.objects.get(slug="p3"), ProductPage.objects.get(slug="p4")
page.photo = draft.photo = image(2)
page.save_revision().publish()
draft.save_revision()
look()
assert staff.post(reverse("wagtailimages:delete", args=[image(5).pk])).status_code == 302
look()
print("said", json.dumps(said))
"""


def picture(number):
    """A photo of a thing on white: 0 and 1 alike, and 2 and 3, and so on; 6 like nothing else."""
    image = Image.new("RGB", (320, 240), "white")
    draw, colour = ImageDraw.Draw(image), ["crimson", "seagreen", "navy", "orange"][number // 2]
    box = (60 + 6 * (number % 2), 40, 240, 200)
    [draw.ellipse, draw.rectangle, draw.chord, draw.rounded_rectangle][number // 2](
        *([box, 20, 300] if number // 2 == 2 else [box]), fill=colour
    )
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


# There is no network.
QUIET = "WAGTAIL_ENABLE_UPDATE_CHECK = False\nWAGTAIL_GRAVATAR_PROVIDER_URL = None\n"


class WagtailShop(Shop):
    """A project of ``wagtail start``, and what the page of the docs adds."""

    def __init__(self, folder, database):
        self.folder = folder
        start = [sys.executable, "-c", "from wagtail.bin.wagtail import main; main()", "start", "proj", "."]
        subprocess.run(start, cwd=folder, env=self.environment, check=True, capture_output=True, timeout=60)
        self.append("proj/settings/base.py", f"DATABASES = {{'default': {database!r}}}\nALLOWED_HOSTS = ['*']\n{QUIET}")
        copy_tables(database, "wagtail", self.migrate)
        (folder / "pictures").mkdir()
        for number in range(IMAGES + 1):
            (folder / "pictures" / f"{number}.jpg").write_bytes(picture(number))
        for path, text in docs.files(PAGE):
            self.append(path, text)
        [template] = docs.blocks(PAGE, "html+django")
        self.write("home/templates/home/product_page.html", template)
        make, migrate, reindex = docs.blocks(PAGE, "bash")[0].splitlines()
        self.command(make)
        self.command(migrate)
        assert reindex == "python manage.py reindex_embeddings --sync"
        self.seen = self.said(FILL + REINDEX + LOOK)

    def migrate(self, database):
        """Run the migrations of the project that ``wagtail start`` makes."""
        settings = "from proj.settings.base import *\nfrom proj.settings.dev import SECRET_KEY\n"
        self.write("before.py", f"{settings}DATABASES = {{'default': {database!r}}}\n")
        self.command("python manage.py migrate --verbosity=0 --settings=before")

    @property
    def environment(self):
        return {**super().environment, "PYTHONPATH": f"{STARTUP}:{docs.ROOT}"}

    def said(self, program):
        [line] = [line for line in self.shell(program).splitlines() if line.startswith("said ")]
        return json.loads(line.removeprefix("said "))


@pytest.fixture(scope="module")
def shop(server, tmp_path_factory):  # noqa: F811
    return WagtailShop(tmp_path_factory.mktemp("wagtail"), server)


@pytest.fixture(scope="module")
def said(shop):
    return shop.seen


@pytest.fixture(scope="module")
def address(shop):
    port = closed_port()
    with (shop.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", str(port)],
            cwd=shop.folder,
            env=shop.environment,
            stdout=log,
            stderr=log,
        )
    until(lambda: process.poll() is not None or _answers(port), 60, "the server's start")
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    process.wait(30)


def _answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True


@pytest.mark.timeout(600)
class TestWagtail:
    def test_what_the_page_says_is_enough(self, shop, said):
        assert said["check"] == NO_ISSUES
        assert said["makemigrations"] == "No changes detected\n"
        assert "ProductPageEmbedding.embedding: 12 done, 0 skipped, 0 cleared, 0 refused, 0 failed" in said["indexed"]
        assert "ImageEmbedding.embedding: 6 done" in said["indexed"]

    def test_pages_and_images_are_found(self, shop, said):
        assert said["similar"][0] == "product 6", "with the same photo"
        assert set(said["similar"][1:3]) == {"product 1", "product 7"}
        assert len(said["similar"]) == 11
        assert said["photo"] == [200, True]
        assert "product 11" not in said["html"], "not live"
        assert said["html"].count(".fill-240x240.jpg 240w") == 4
        assert said["queries"][0] == said["queries"][1]
        print(said["queries"])
        assert said["boss"][0] == said["editor"][0] == "image 1"
        assert set(said["boss"]) - set(said["editor"]) == {"image 4"}, "in a collection of its own"
        assert len(said["editor"]) == 4
        assert said["nobody"] == []
        assert said["checks"] == []
        assert said["usage"] == 2, "the two pages"

    def test_in_a_browser(self, said, address, browser):  # noqa: F811
        with opened(browser, expected=["favicon.ico"]) as page:
            page.goto(f"{address}/p0/")
            assert page.locator(".visual-search-similar img").count() == 4
            page.wait_for_load_state("networkidle")
            assert page.locator(".visual-search-similar img").evaluate_all("all => all.every(one => one.naturalWidth)")
            shot(page, "wagtail-product")
            page.goto(f"{address}/admin/login/")
            page.get_by_label("Username").fill("boss")
            page.get_by_label("Password").fill("boss")
            follow(page, page.get_by_role("button", name="Sign in").click)
            assert page.url.endswith("/admin/")
            page.goto(f"{address}/admin/images/{said['image']}/")
            section = page.locator("section:has(.visual-search-cards)")
            assert section.locator("img").count() == 5
            assert section.locator(".visual-search-title").first.inner_text() == "image 1"
            section.scroll_into_view_if_needed()
            shot(page, "wagtail-image")
            page.goto(f"{address}/admin/pages/{said['page']}/edit/")
            panel = page.locator(".w-panel:has(.visual-search-cards)")
            assert panel.get_by_role("heading").inner_text().strip() == "Similar images"
            assert panel.locator("img").count() == 5
            panel.scroll_into_view_if_needed()
            shot(page, "wagtail-page")
            page.set_viewport_size(MOBILE)
            assert wider_than_the_window(page) == 0
            shot(page, "wagtail-page-mobile")

    def test_what_editors_do_keeps_vectors_current(self, shop):
        start, focused, replaced, chosen, deleted = shop.said(EDIT)
        assert start[:2] == [[0, 0], [0, 0]]
        assert focused[:2] == [[2, 0], [1, 0]]
        assert {title for title in start[2] if start[2][title] != focused[2][title]} == {"product 0", "product 6"}
        assert focused[2]["product 0"].endswith("#xywh=percent:31.25,45.83,31.25,33.33")
        assert replaced[:2] == [[2, 0], [1, 0]]
        assert {title for title in start[2] if focused[2][title] != replaced[2][title]} == {"product 1", "product 7"}
        assert chosen[:2] == [[1, 0], [0, 0]], "of the draft nothing"
        assert chosen[2]["product 3"] == chosen[2]["product 2"]
        assert deleted[:2] == [[0, 2], [0, 0]]
        assert deleted[2]["product 5"] is None
