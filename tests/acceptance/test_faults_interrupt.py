"""Ctrl-C anywhere in a reindex: what was begun is given back, so that it neither waits for a lease nor counts."""

import functools
import io
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_visual_search import indexing
from django_visual_search.decoding import pool
from django_visual_search.indexing import claims
from django_visual_search.management.commands import reindex_embeddings
from django_visual_search.models import IndexingAttempt

from ..conftest import picture_file
from ..testshop.models import Product

LABEL = "testshop.Product.embedding"
FOLDER = Path(indexing.__file__).parent
COMMAND = {"_reindex", "_embed", "_passes", "_summarise"}
"""Of the command's functions, those that it runs between beginning and end of a field."""
GIVING_BACK = {"close", "give_back", "release", "_settle", "_update_unlocked"}
"""Interrupted in these, a claim ends with its lease."""
PLACES = 25


@pytest.fixture(autouse=True)
def products(transactional_db):
    return Product.objects.bulk_create(Product(name=str(n), image=picture_file(n)) for n in range(12))


def reindex():
    call_command("reindex_embeddings", LABEL, "--sync", "--batch-size", "3", stdout=io.StringIO())


def assert_stopped(tracer=None):
    with pytest.raises(CommandError, match="Stopped") as stopped:
        reindex()
    assert stopped.value.returncode == 130
    # The exception is still there, and with it all that it refers to: a process that ends doesn't collect that.
    begun = IndexingAttempt.objects.filter(attempts__gt=0)
    assert not begun.exists(), f"not given back: {list(begun)}, {tracer and tracer.place}"


@functools.cache
def interruptible(code):
    file = Path(code.co_filename)
    ours = file.parent == FOLDER or (file.name == "reindex_embeddings.py" and code.co_name in COMMAND)
    return ours and code.co_name not in GIVING_BACK


class Tracer:
    """Counts the lines that a reindex runs, and raises KeyboardInterrupt at one of them."""

    def __init__(self, interrupted=None):
        self.interrupted = interrupted
        self.count = 0
        self.place = None

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.call)
        return self

    def __exit__(self, *error):
        sys.settrace(self.before)

    def call(self, frame, event, argument):
        return self.line if interruptible(frame.f_code) else None

    def line(self, frame, event, argument):
        if event == "line":
            self.count += 1
            if self.count == self.interrupted:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.line


def test_at_any_line():
    with Tracer() as whole:
        reindex()
    assert not IndexingAttempt.objects.exists()
    assert whole.count > 10 * PLACES
    places = set()
    # Not to the very end: how often it wakes up for the decoders differs, and with it the number of lines.
    for number in range(1, whole.count * 9 // 10, whole.count // PLACES):
        Product.objects.update(embedding=None, embedding_key="")
        with Tracer(number) as cut:
            assert_stopped(cut)
        places.add(cut.place)
    assert len(places) > PLACES / 2
    reindex()
    assert not Product.objects.filter(embedding=None).exists()


def interrupting(function, *, before=None):
    def wrapped(*args, **kwargs):
        result = function(*args, **kwargs)
        if before is not None:
            before()
        raise KeyboardInterrupt(result)

    return wrapped


def test_after_the_claim_was_made_and_before_it_is_known(monkeypatch):
    monkeypatch.setattr(claims, "claim", interrupting(claims.claim))
    assert_stopped()


def test_in_the_middle_of_handing_pictures_to_the_decoders(monkeypatch):
    submit = interrupting(pool.DecoderPool.submit)
    monkeypatch.setattr(pool.DecoderPool, "submit", submit)
    assert_stopped()


def test_while_progress_is_shown(monkeypatch):
    """Outside of the generators that hold the claims."""
    show = interrupting(reindex_embeddings.Progress.show)
    monkeypatch.setattr(reindex_embeddings.Progress, "show", show)
    assert_stopped()


def test_and_the_connection_is_closed_by_it(monkeypatch):
    """As psycopg does where a statement that it cancels doesn't end in time."""
    submit = interrupting(pool.DecoderPool.submit, before=lambda: connection.connection.close())
    monkeypatch.setattr(pool.DecoderPool, "submit", submit)
    assert_stopped()
