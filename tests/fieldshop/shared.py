"""Pictures that several rows share: ``source`` over foreign keys, with an area of the picture (``crop``)."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import transaction
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext
from PIL import Image

from django_visual_search import indexing, search
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing import claims
from django_visual_search.indexing.claims import Picture
from django_visual_search.indexing.status import State, statuses
from django_visual_search.indexing.writes import write
from django_visual_search.models import IndexingAttempt
from tests.testshop.celery import app

from ..conftest import embed_all, picture, picture_file
from . import models
from .models import Album, Page, PageCompanion, Photo, Teaser

pytestmark = pytest.mark.django_db

PAGES, TEASERS = "fieldshop.PageCompanion.embedding", "fieldshop.Teaser.embedding"
AREA = {"focal_point_x": 40, "focal_point_y": 24, "focal_point_width": 32, "focal_point_height": 16}


@pytest.fixture(autouse=True)
def reads():
    models.CountingStorage.reads.clear()
    return models.CountingStorage.reads


@pytest.fixture
def photos():
    return [Photo.objects.create(file=picture_file(i, f"p{i}.jpg")) for i in range(3)]


class Rows:
    """Rows of one declaration, two of which share the first photo."""

    def __init__(self, label, photos):
        self.label, self.field = label, get_field(label)
        places = [photos[0], photos[1], photos[0]]
        if label == PAGES:
            self.rows = [Page.objects.create(photo=photo) for photo in places]
        else:
            self.rows = [Teaser.objects.create(album=Album.objects.create(cover=photo)) for photo in places]

    def point_elsewhere(self, row, photo, **how):
        """Give a row another photo, without signals or by ``save``."""
        owner, name = (row, "photo") if self.label == PAGES else (row.album, "cover")
        if how.get("save"):
            setattr(owner, name, photo)
            owner.save()
        else:
            type(owner).objects.filter(pk=owner.pk).update(**{name: photo})

    def stale(self):
        return set(indexing.stale(self.field).values_list("pk", flat=True))

    def vectors(self):
        """Return a list of vector or None for each row."""
        found = dict(self.field.model._base_manager.values_list("pk", "embedding"))
        return [found.get(row.pk) for row in self.rows]


@pytest.fixture(params=[PAGES, TEASERS])
def shared(request, photos):
    made = Rows(request.param, photos)
    assert embed_all(request.param).done == 3
    return made


@pytest.fixture
def eager():
    """Run tasks in this process, as in a project without a broker."""
    app.set_default()
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


class TestOneDecode:
    @pytest.mark.parametrize("label", [PAGES, TEASERS])
    @pytest.mark.parametrize("batch_size", [1, 64])
    def test_a_shared_picture_is_read_once(self, label, batch_size, photos, reads):
        rows, *_ = [Rows(label, photos) for _ in range(3)]
        outcome = indexing.Outcome()
        for step in indexing.embed(rows.field, indexing.pending_keys(rows.field), batch_size=batch_size):
            outcome.add(step)
        assert (outcome.done, outcome.skipped) == (9, 0)
        assert reads == {"library/p0.jpg": 1, "library/p1.jpg": 1}
        assert rows.vectors()[0] == rows.vectors()[2]
        assert rows.vectors()[0] != rows.vectors()[1]
        assert not IndexingAttempt.objects.exists()

    def test_one_row_of_many_takes_the_others_along(self, photos, reads):
        rows = Rows(PAGES, photos)
        [outcome] = [step for step in indexing.embed(rows.field, [rows.rows[0].pk]) if step.settled]
        assert outcome.done == 2
        assert sum(reads.values()) == 1
        assert rows.stale() == {rows.rows[1].pk}

    def test_a_refused_picture_is_refused_for_all(self, photos):
        rows = Rows(PAGES, photos)
        photos[0].file.save("p0.jpg", ContentFile(b"nothing"))
        outcome = embed_all(PAGES)
        assert (outcome.done, outcome.refused) == (1, 2)
        assert statuses(Page, [row.pk for row in rows.rows])[rows.rows[2].pk].state is State.REFUSED

    def test_reindex(self, shared):
        said = io.StringIO()
        call_command("reindex_embeddings", shared.label, "--force", "--sync", stdout=said)
        assert "3 done, 0 skipped" in said.getvalue()


class TestStale:
    """Found by comparison, whatever changed, and without signals."""

    def test_another_file(self, shared, photos):
        before = shared.vectors()
        name = photos[0].file.storage.save("library/new.jpg", picture_file(9))
        Photo.objects.filter(pk=photos[0].pk).update(file=name)
        assert shared.stale() == {shared.rows[0].pk, shared.rows[2].pk}
        embed_all(shared.label)
        after = shared.vectors()
        assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, False]
        assert not shared.stale()

    def test_another_photo(self, shared, photos):
        before = shared.vectors()
        shared.point_elsewhere(shared.rows[0], photos[1])
        assert shared.stale() == {shared.rows[0].pk}
        embed_all(shared.label)
        assert shared.vectors() == [before[1], *before[1:]]

    def test_no_photo_any_more(self, shared):
        shared.point_elsewhere(shared.rows[0], None)
        assert shared.stale() == {shared.rows[0].pk}
        assert embed_all(shared.label).cleared == 1
        assert shared.vectors()[0] is None
        assert not shared.stale()

    def test_another_file_of_the_same_name(self, shared, photos):
        before = shared.vectors()
        photos[0].file.save("p0.jpg", picture_file(9))
        assert photos[0].file.name == "library/p0.jpg"
        assert shared.stale() == {shared.rows[0].pk, shared.rows[2].pk}
        embed_all(shared.label)
        assert [old == new for old, new in zip(before, shared.vectors(), strict=True)] == [False, True, False]


class TestSignals:
    """What a save sends, with tasks that run at once."""

    @pytest.fixture(autouse=True)
    def committed(self, eager, django_capture_on_commit_callbacks):
        self.committing = lambda: django_capture_on_commit_callbacks(execute=True)

    def test_a_new_row(self, photos):
        with self.committing():
            rows = Rows(PAGES, photos)
        assert not rows.stale()
        assert None not in rows.vectors()

    @pytest.mark.parametrize("name", ["p0.jpg", "other.jpg"])
    def test_another_file(self, shared, photos, name):
        before = shared.vectors()
        with self.committing():
            photos[0].file.save(name, picture_file(9))
        assert not shared.stale()
        assert [old == new for old, new in zip(before, shared.vectors(), strict=True)] == [False, True, False]

    def test_another_photo(self, shared, photos):
        before = shared.vectors()
        with self.committing():
            shared.point_elsewhere(shared.rows[0], photos[1], save=True)
        assert shared.vectors() == [before[1], *before[1:]]

    def test_a_deleted_photo(self, shared, photos):
        with self.committing():
            photos[0].delete()
        assert shared.vectors()[::2] == [None, None]
        assert not shared.stale()

    def test_nothing_to_do(self, shared, photos, django_assert_max_num_queries):
        with self.committing() as callbacks, django_assert_max_num_queries(2 + 10):
            photos[0].save()
            photos[2].save(update_fields=["focal_point_x"])
        assert len(callbacks) <= 4
        assert not shared.stale()


class TestCompareAndSet:
    """What changes between reading a picture and writing its vector is not overwritten."""

    def attempt(self, shared, change):
        """Claim the first row, change something, and write a vector as a slow worker does."""
        field, row = shared.field, shared.rows[0]
        indexing.mark_stale(field, [row.pk])
        [(image, key)] = indexing.stale(field).filter(pk=row.pk).values_list("_visual_image", "_visual_wanted")
        [claim] = claims.claim(field, [Picture(str(row.pk), image, key)], "00000000-0000-0000-0000-000000000001")
        change()
        return write(field, [claim], np.ones((1, models.DIMENSIONS), np.float16))

    def test_nothing_changed(self, shared):
        assert self.attempt(shared, lambda: None) == {str(shared.rows[0].pk)}
        assert shared.vectors()[0] == [1.0] * models.DIMENSIONS

    def test_another_file(self, shared, photos):
        before = shared.vectors()
        assert self.attempt(shared, lambda: Photo.objects.update(file="library/new.jpg")) == set()
        assert shared.vectors() == before

    def test_another_photo(self, shared, photos):
        before = shared.vectors()
        assert self.attempt(shared, lambda: shared.point_elsewhere(shared.rows[0], photos[1])) == set()
        assert shared.vectors() == before

    def test_another_file_of_the_same_name(self, shared, photos):
        before = shared.vectors()
        assert self.attempt(shared, lambda: photos[0].file.save("p0.jpg", picture_file(9))) == set()
        assert shared.vectors() == before

    @pytest.mark.django_db(transaction=True)
    def test_a_photo_that_someone_is_saving_is_passed_over(self, shared, photos):
        locked, done = threading.Event(), threading.Event()

        def save():
            with transaction.atomic():
                Photo.objects.select_for_update().get(pk=photos[0].pk)
                locked.set()
                done.wait(10)
            transaction.get_connection().close()

        thread = threading.Thread(target=save)

        def change():
            thread.start()
            locked.wait(10)

        try:
            assert self.attempt(shared, change) == set()
        finally:
            done.set()
            thread.join()


class TestArea:
    def test_the_focal_point_is_what_is_embedded(self, photos, shared):
        if shared.label != PAGES:
            return
        Photo.objects.filter(pk=photos[0].pk).update(**AREA)
        assert shared.stale() == {shared.rows[0].pk, shared.rows[2].pk}
        assert embed_all(PAGES).done == 2
        [key] = PageCompanion.objects.filter(page=shared.rows[0]).values_list("embedding_key", flat=True)
        assert key.endswith(":library/p0.jpg#xywh=percent:37.50,25.00,50.00,25.00")
        part = Image.open(photos[0].file.path).crop((24, 16, 56, 32))
        alone = io.BytesIO()
        part.save(alone, "PNG")
        found = search.search_by_image(alone.getvalue(), PAGES, limit=2)
        assert {hit.product for hit in found} == {shared.rows[0], shared.rows[2]}
        assert found[0].similarity > 0.999
        whole = search.search_by_image(picture(0), PAGES, limit=1)
        assert whole[0].similarity < 0.99

    def test_a_photo_that_lies_on_its_side(self):
        """Its pixels are counted as they are stored; the area is marked on the picture as it is shown."""
        stored, exif, file = Image.open(io.BytesIO(picture(3))).resize((64, 32)), Image.Exif(), io.BytesIO()
        exif[0x112] = 6
        stored.save(file, "JPEG", quality=95, exif=exif)
        photo = Photo.objects.create(
            file=ContentFile(file.getvalue(), "turned.jpg"),
            focal_point_x=48,
            focal_point_y=8,
            focal_point_width=32,
            focal_point_height=16,
        )
        assert (photo.width, photo.height) == (64, 32)
        Page.objects.create(photo=photo)
        embed_all(PAGES)
        shown, alone = stored.transpose(Image.Transpose.ROTATE_270), io.BytesIO()
        assert shown.size == (32, 64)
        shown.crop((16, 0, 32, 32)).save(alone, "PNG")
        assert search.search_by_image(alone.getvalue(), PAGES)[0].similarity > 0.99

    @pytest.mark.parametrize(
        "area",
        [{"focal_point_x": 4000}, {"focal_point_width": 0}, {"focal_point_height": None}, {"focal_point_width": 3}],
    )
    def test_an_area_that_the_picture_has_not(self, photos, area):
        rows = Rows(PAGES, photos)
        embed_all(PAGES)
        before = rows.vectors()
        Photo.objects.filter(pk=photos[0].pk).update(**{**AREA, **area})
        embed_all(PAGES)
        assert rows.vectors() == before

    def test_saving_a_focal_point_sends_the_work(self, photos, eager, django_capture_on_commit_callbacks):
        rows = Rows(PAGES, photos)
        embed_all(PAGES)
        before = rows.vectors()
        with django_capture_on_commit_callbacks(execute=True):
            for name, value in AREA.items():
                setattr(photos[0], name, value)
            photos[0].save(update_fields=list(AREA))
        assert [old == new for old, new in zip(before, rows.vectors(), strict=True)] == [False, True, False]

    def test_several_areas_in_one_batch(self, photos):
        pages = []
        for x in range(16, 49, 4):
            photo = Photo.objects.create(file="library/p0.jpg", **{**AREA, "focal_point_x": x})
            pages.append(Page.objects.create(photo=photo))
        embed_all(PAGES)
        vectors = set(map(tuple, PageCompanion.objects.values_list("embedding", flat=True)))
        assert len(vectors) > 5


class TestShown:
    def test_cards_ask_once_for_all_pictures(self, photos, settings, rf):
        settings.DEBUG = True
        first = Page.objects.create(photo=photos[0])
        counts = []
        for _ in range(2):
            for i in range(3):
                Page.objects.create(photo=photos[i])
            embed_all(PAGES)
            with CaptureQueriesContext(transaction.get_connection()) as queries:
                html = Template("{% load visual_search %}{% similar_items page %}").render(
                    Context({"page": first, "request": rf.get("/")})
                )
            counts.append(len(queries))
        assert html.count("/p1.jpg") == 2
        assert counts[0] == counts[1]

    def test_admin_and_evaluation(self, shared, client):
        client.force_login(User.objects.create(username="boss", is_staff=True, is_superuser=True))
        assert client.get("/admin/django_visual_search/dashboard/").status_code == 200
        call_command("evaluate_search", shared.label, stdout=io.StringIO())
        call_command("findability_report", shared.label, stdout=io.StringIO())
