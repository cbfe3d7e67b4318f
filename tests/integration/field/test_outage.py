"""Row 25: a storage that is away is not the pictures' fault; only what it lacks while it has others is refused."""

import datetime
import os
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage
from django.db.models import F

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.models import IndexingAttempt

from ...conftest import embed_all, picture_file
from ...testshop.models import Product

pytestmark = pytest.mark.django_db

DAY = datetime.timedelta(days=1)
FIELD = get_field("testshop.Product.embedding")


@pytest.fixture
def media(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path / "media")
    Path(settings.MEDIA_ROOT).mkdir()
    return Path(settings.MEDIA_ROOT)


def make(count):
    return [Product.objects.create(image=picture_file(n)) for n in range(count)]


def pauses():
    waits = IndexingAttempt.objects.annotate(pause=F("leased_until") - F("updated_at"))
    return {round(wait.total_seconds()) for wait in waits.values_list("pause", flat=True)}


def pass_time():
    """As if all pauses were over."""
    IndexingAttempt.objects.update(
        leased_until=F("leased_until") - datetime.timedelta(days=1),
        updated_at=F("updated_at") - datetime.timedelta(days=1),
    )


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("empty", [False, True], ids=["no folder", "an empty folder"])
def test_a_media_volume_that_is_away_for_a_sweep(media, before, empty):
    make(before)
    embed_all()
    make(20)
    away = media.rename(media.with_name("away"))
    if empty:
        media.mkdir()
    report = embed_all()
    assert (report.refused, report.failed, dict(report.reasons)) == (0, 20, {"storage": 20})
    if empty:
        media.rmdir()
    away.rename(media)
    pass_time()
    assert embed_all().done == 20
    assert not IndexingAttempt.objects.exists()


class ClientError(Exception):
    """As boto3's: no OSError."""


@pytest.mark.parametrize("error", [ClientError("503 Slow Down"), TimeoutError(), PermissionError(13, "denied")])
def test_other_ways_of_being_away(media, error, monkeypatch):
    """A bucket that is throttled, a server that is slow, a key that has expired."""
    made = make(5)

    def away(storage, name, mode="rb"):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(FileSystemStorage, "_open", away)
        for _ in range(4):
            report = embed_all()
            assert (report.refused, report.done) == (0, 0)
            pass_time()
    assert embed_all().done == len(made)
    assert not IndexingAttempt.objects.exists()


def test_the_pauses_grow_to_an_hour_and_count_no_attempt(media):
    make(2)
    media.rename(media.with_name("away"))
    seen = []
    for _ in range(9):
        embed_all()
        seen += pauses()
        assert indexing.pending(FIELD).count() == 0
        pass_time()
    assert seen == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert set(IndexingAttempt.objects.values_list("attempts", "state")) == {(0, "failed")}


def test_what_is_missing_while_others_are_there_is_refused(media):
    """Also where no other one was embedded before."""
    _, gone, _ = make(3)
    os.unlink(gone.image.path)
    report = embed_all()
    assert (report.done, dict(report.reasons)) == (2, {"missing_file": 1})
    assert indexing.pending(FIELD).count() == 0
    one = Product.objects.create(image=picture_file(7))
    os.unlink(one.image.path)
    assert dict(embed_all().reasons) == {"missing_file": 1}, "the storage has those that were embedded"


def test_a_file_that_comes_back_while_it_is_asked_for(media, monkeypatch):
    """The volume came back between the read and the question whether it is there."""
    make(2)
    embed_all()
    late = make(1)[0]
    hidden = Path(late.image.path).rename(media / "hidden")
    exists = FileSystemStorage.exists

    def come_back(storage, name):
        if hidden.exists():
            hidden.rename(late.image.path)
        return exists(storage, name)

    monkeypatch.setattr(FileSystemStorage, "exists", come_back)
    assert dict(embed_all().reasons) == {"storage": 1}


@pytest.mark.parametrize("name", ["folder", "0.jpg/inside.jpg"])
def test_a_name_that_no_file_can_have_is_refused(media, name):
    make(1)
    (media / "folder").mkdir()
    Product.objects.create(image="x")
    Product.objects.filter(image="x").update(image=f"products/{name}" if "0.jpg" in name else name)
    report = embed_all()
    assert (report.done, dict(report.reasons)) == (1, {"unsafe_name": 1})
