"""Runs: what a sweep or reindex writes down of itself, and how seldom."""

import datetime
import time

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_visual_search import indexing
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing.runs import Run
from django_visual_search.models import IndexingRun

from ..conftest import embed_all, picture_file
from ..testshop.models import Product

LABEL = "testshop.Product.embedding"


@pytest.fixture
def field():
    return get_field(LABEL)


@pytest.mark.django_db
class TestRun:
    def test_writes_seldom(self, field):
        run = Run(field, "sweep", write_seconds=0.2)
        with CaptureQueriesContext(connection) as captured:
            for n in range(100):
                time.sleep(0.01)
                run.show(indexing.Outcome(done=n))
        assert 3 <= len(captured) <= 10
        assert IndexingRun.objects.get().finished_at is None
        run.finish(indexing.Outcome(done=100, cleared=2, refused=3, failed=4, quarantined=5))
        row = IndexingRun.objects.get()
        assert (row.done, row.failed, row.finished_at is not None) == (102, 12, True)

    def test_the_latest_to_start_keeps_the_row(self, field):
        earlier, later = Run(field, "sweep"), Run(field, "sweep")
        earlier.started -= datetime.timedelta(seconds=5)
        later.finish(indexing.Outcome(done=7))
        earlier.finish(indexing.Outcome(done=3))
        assert IndexingRun.objects.get().done == 7
        Run(field, "sweep").finish(indexing.Outcome())
        assert IndexingRun.objects.get().done == 0

    def test_kinds_and_fields_have_rows_of_their_own(self, field):
        Run(field, "sweep").finish(indexing.Outcome())
        Run(field, "command", 5).finish(indexing.Outcome())
        Run(get_field("testshop.Poster.embedding"), "sweep").finish(indexing.Outcome())
        assert IndexingRun.objects.count() == 3

    def test_sweep(self):
        for seed in range(3):
            Product.objects.create(name="A", image=picture_file(seed))
        embed_all()
        row = IndexingRun.objects.get()
        assert (row.label, row.kind, row.done, row.failed, row.total) == (LABEL, "sweep", 3, 0, None)
        assert row.finished_at >= row.started_at
        before = row.started_at
        embed_all()
        row = IndexingRun.objects.get()
        assert (row.done, row.started_at > before) == (0, True)

    def test_one_that_is_interrupted_does_not_finish(self, field):
        Run(field, "sweep", write_seconds=0).show(indexing.Outcome(done=1))
        row = IndexingRun.objects.get()
        assert (row.done, row.finished_at) == (1, None)


@pytest.mark.django_db(transaction=True)
def test_command(field):
    for seed in range(5):
        Product.objects.create(name="A", image=picture_file(seed))
    broken = Product.objects.order_by("pk").last()
    with open(broken.image.path, "wb") as file:
        file.write(b"no picture")
    with pytest.raises(Exception, match="Some pictures have no vector"):
        call_command("reindex_embeddings", LABEL, sync=True, batch_size=2, verbosity=0)
    row = IndexingRun.objects.get()
    assert (row.kind, row.total, row.done, row.failed) == ("command", 5, 4, 1)
    assert row.finished_at is not None
