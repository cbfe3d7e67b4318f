"""``manage.py demo``: from nothing to photos that find products."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from PIL import Image

from django_visual_search import search
from django_visual_search.fields.registry import get_field
from django_visual_search.models import EmbeddingHead, TextHead
from django_visual_search.spaces.heads import key_of_space
from django_visual_search.spaces.live import live_spaces
from example_project.shop import filling, first_day
from example_project.shop.drawing.sheet import contact_sheet
from example_project.shop.drawing.write import Drawing, Shot, write_all
from example_project.shop.samples import photo_folder
from example_project.shop.selectors import visible_products

QUERIES = {"SNE-010": "table", "TEA-004": "table", "BAC-019": "room"}
"""SKUs of the products to photograph, each with the scene of its photo; none of these photos is in the shop."""
FIELD, HEAD = "shop.Product.embedding", "demo"
SHEET = "demo-results.png"
HITS = 6
LOCK = 20_240_613
"""Id of the advisory lock: any number that nothing else in this database uses."""


class Command(BaseCommand):
    help = (
        "Draw a catalogue, learn a head from it, embed it, let a first day pass, and search it by three photos. "
        "A second run only repeats the searches."
    )

    def handle(self, **options: Any) -> None:
        started = time.monotonic()
        self.stdout.write("Preparing the database")
        with connection.cursor() as cursor:  # a second demo waits here until the first has ended
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        call_command("migrate", verbosity=0)
        items = filling.items()
        photos = self._photos()
        self._draw(items, photos)
        with transaction.atomic():
            filling.fill(items)
            filling.fill_orders()
        if settings.CELERY_TASK_ALWAYS_EAGER:
            self.stdout.write("No CELERY_BROKER_URL: tasks run inline, after commit; no worker is needed.")
        self._learn()
        call_command("reindex_embeddings", sync=True, stdout=self.stdout, stderr=self.stderr)
        self._learn_words()
        self.stdout.write("Shoppers look around, staff make rules")
        first_day.open_shop()
        found = self._search(photos)
        self.stdout.write(f"\nThe ranked hits as a picture: {SHEET}")
        self.stdout.write("The three photos are on the shop's page for photo search, to be clicked.")
        seconds = time.monotonic() - started
        self.stdout.write(f"Done in {seconds:.0f} s; {found} of {len(photos)} photos found their product first.\n\n")
        self.stdout.write("Open the shop:  python manage.py runserver   and then  http://127.0.0.1:8000/")
        if settings.DEBUG:
            name, password = first_day.admin_login()
            self.stdout.write(f"The admin is at http://127.0.0.1:8000/admin/ for user {name} with password {password}")

    def _photos(self) -> dict[str, Path]:
        """Return the file of each photo by the SKU of its product."""
        return {sku: photo_folder() / f"{sku.lower()}-{scene}.jpg" for sku, scene in QUERIES.items()}

    def _draw(self, items: list[filling.Item], photos: dict[str, Path]) -> None:
        """Draw the products' pictures and the photos, which differ from them in background, light and viewpoint."""
        products = filling.drawings(items)
        self.stdout.write(f"Drawing {len(products)} of {len(items)} products")
        designs = {item.sku: item.design for item in items}
        drawings = products + [
            Drawing(designs[sku], None, [Shot(str(file), f"query {sku}", QUERIES[sku])])
            for sku, file in photos.items()
            if not file.exists()
        ]
        for count, _ in enumerate(write_all(drawings), 1):
            if count % 100 == 0:
                self.stdout.write(f"  {count} drawn")

    def _learn_words(self) -> None:
        """Learn what the products' names look like in the space that serves, for searches by text, once."""
        field = get_field(FIELD)
        space = key_of_space(field, live_spaces(field).serving)
        if not TextHead.objects.filter(label=FIELD, space_key=space).exists():
            call_command("train_embedding", FIELD, text=True, stdout=self.stdout, stderr=self.stderr)

    def _learn(self) -> None:
        """Learn a head from the products' categories and colours, once, and let it serve if it is better.

        Before there are vectors, which would have to be moved.
        """
        if EmbeddingHead.objects.filter(label=FIELD).exists():
            return
        say: dict[str, Any] = {"stdout": self.stdout, "stderr": self.stderr}
        call_command("train_embedding", FIELD, labels="category,colour", name=HEAD, **say)
        try:
            call_command("switch_embedding", HEAD, sync=True, **say)
        except CommandError as refused:  # the shop works without it
            self.stderr.write(str(refused))

    def _search(self, photos: dict[str, Path]) -> int:
        """Print and paint the hits; return how many photos found their product at the first rank."""
        rows, found = [], 0
        shown = visible_products().select_related("brand", "category")
        for sku, file in photos.items():
            with file.open("rb") as photo:
                results = search.search_by_image(photo, FIELD, limit=HITS, within=shown)
            if not results:
                raise CommandError("The search found nothing: the catalogue has no embeddings.")
            self.stdout.write(f"\nPhoto of {sku} ({file.name}), {'exact' if results.exact else 'approximate'} search:")
            row = [(Image.open(file).convert("RGB"), f"Photo\n{sku}")]
            for hit in results:
                mark = "  <- the one in the photo" if hit.product.sku == sku else ""
                found += bool(mark) and hit.rank == 1
                self.stdout.write(f"  {hit.rank}. {hit.similarity:.3f}  {hit.product.sku}  {hit.product.name}{mark}")
                with hit.product.image.open() as picture:
                    image = Image.open(picture).convert("RGB")
                row.append((image, f"{hit.rank}. {hit.product.name}\n{hit.similarity:.3f}  {hit.product.sku}"))
            rows.append(row)
        contact_sheet(rows, cell=190, first="Photo", rest="Found, best first").save(SHEET)
        return found
