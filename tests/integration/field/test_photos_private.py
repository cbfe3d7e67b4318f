"""Rows 27, 28 and 31: a photo gets into no error report and onto no disk; nobody waits for a body that is refused."""

import base64
import contextlib
import socket
import sys
import threading
import time

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import got_request_exception
from django.test import Client
from django.urls import reverse
from django.views.debug import ExceptionReporter

from django_visual_search import search
from django_visual_search.storefront import cards, uploads

from ...image_files import encode, quadrants
from ...shop_api import make_products, post_json
from ...testshop.extractors import ColourExtractor

pytestmark = pytest.mark.django_db

SECRET = "48.8583 N, 2.2944 E"
PHOTO = encode(quadrants(), comment=SECRET.encode())
API = "/api/products/search-by-image/"
PAGE = "/visual-search/photo/testshop/product/"


def by_page(client, data=PHOTO):
    return client.post(PAGE, {"image": SimpleUploadedFile("x.jpg", data)})


def by_api(client, data=PHOTO):
    return client.post(API, {"image": SimpleUploadedFile("x.jpg", data)})


def by_json(client, data=PHOTO):
    return post_json(client, API, {"image": "data:image/jpeg;base64," + base64.b64encode(data).decode()})


def by_admin(client, data=PHOTO):
    url = reverse("admin:testshop_product_visual_search")
    return client.post(url, {"photo": SimpleUploadedFile("x.jpg", data)})


ways = pytest.mark.parametrize("send", [by_page, by_api, by_json, by_admin])


@pytest.fixture
def shop(client):
    make_products(3)
    client.force_login(User.objects.create(username="boss", is_staff=True, is_superuser=True))
    client.raise_request_exception = False
    return client


@pytest.fixture
def reports():
    """What Django would mail or show for each exception."""
    made = []

    def report(sender, request, **kwargs):
        reporter = ExceptionReporter(request, *sys.exc_info())
        made.append(reporter.get_traceback_html() + reporter.get_traceback_text())

    got_request_exception.connect(report)
    yield made
    got_request_exception.disconnect(report)


def fail(*args, **kwargs):
    raise ZeroDivisionError("on purpose")


@ways
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("place", ["extractor", "after the search"])
def test_row_27_no_photo_in_an_error_report(shop, reports, monkeypatch, settings, send, debug, place):
    settings.DEBUG = debug
    if place == "extractor":
        monkeypatch.setattr(ColourExtractor, "__call__", fail)
    else:
        monkeypatch.setattr(cards, "title_of", fail)
        monkeypatch.setattr("django_visual_search.admin.hits.title_of", fail)
        monkeypatch.setattr("django_visual_search.api.mixin.first_page_response", fail)
    assert send(shop).status_code == 500
    [report] = reports
    assert "on purpose" in report
    for text in (SECRET, base64.b64encode(PHOTO)[20:60].decode(), "/9j/4AAQSkZJRg", r"\xff\xd8\xff"):
        assert text not in report


def test_row_27_bytes_given_to_python_are_hidden_too(shop, rf, monkeypatch):
    monkeypatch.setattr(ColourExtractor, "__call__", fail)
    try:
        search.search_by_image(PHOTO, "testshop.Product")
    except ZeroDivisionError:
        _, error, traceback = sys.exc_info()
        ours = traceback.tb_next  # this test's own frame has the photo
        reporter = ExceptionReporter(rf.get("/"), type(error), error.with_traceback(ours), ours)
        assert SECRET not in reporter.get_traceback_html()


@ways
def test_rows_27_and_31_an_upload_never_reaches_the_disk(shop, settings, tmp_path, monkeypatch, send):
    """Nor does a full or missing folder for uploads matter."""
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path / "missing")
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1000
    seen = []
    monkeypatch.setattr(InMemoryUploadedFile, "__init__", seeing(InMemoryUploadedFile.__init__, seen))
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000_000
    assert send(shop, PHOTO + bytes(3_000_000)).status_code == 200
    assert bool(seen) == (send is not by_json)


def seeing(function, seen):
    def wrapped(self, *args, **kwargs):
        seen.append(self)
        return function(self, *args, **kwargs)

    return wrapped


def test_row_27_staff_photos_are_still_protected_from_other_sites(shop):
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = shop.cookies
    assert by_admin(strict).status_code == 403


class Sender:
    """A client at the other end of a socket that sends a body of 60 MB: a few bytes now and then."""

    def __init__(self, pause):
        self.theirs, self.ours = socket.socketpair()
        self.input = self.ours.makefile("rb")
        self.pause, self.end = pause, threading.Event()
        self.thread = threading.Thread(target=self.send)

    def send(self):
        with contextlib.suppress(OSError):
            while not self.end.is_set():
                self.theirs.sendall(b"x" * 100)
                self.end.wait(self.pause)

    def request(self, path):
        length = {"CONTENT_LENGTH": "60000000", "CONTENT_TYPE": "multipart/form-data; boundary=x"}
        return {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "wsgi.input": self.input,
            "gunicorn.socket": self.ours,
            **length,
        }

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.end.set()
        self.thread.join()
        for end in (self.input, self.ours, self.theirs):
            end.close()


@pytest.mark.parametrize("path", [API, PAGE])
@pytest.mark.parametrize("pause", [0.02, 600], ids=["slow", "silent"])
def test_row_28_a_refused_body_is_read_only_so_long(shop, monkeypatch, path, pause):
    monkeypatch.setattr(uploads, "DRAIN_SECONDS", 0.3)
    with Sender(pause) as sender:
        started, statuses = time.monotonic(), []
        response = WSGIHandler()(sender.request(path), lambda status, headers, *_: statuses.append(status))
        b"".join(response)
        response.close()
        assert time.monotonic() - started < 2
        assert statuses[0].startswith("413")
        while sender.ours.recv(100_000):
            pass  # and then an end: the server waits for nothing more


def test_row_28_further_senders_are_cut_off_at_once(shop, monkeypatch):
    monkeypatch.setattr(uploads, "_draining", {1, 2})
    with Sender(600) as sender:
        started = time.monotonic()
        uploads.drain(WSGIRequest(sender.request(PAGE)))
        assert time.monotonic() - started < uploads.DRAIN_SECONDS / 2
        while sender.ours.recv(100_000):
            pass


def test_row_28_a_small_refused_body_is_read_to_its_end(shop):
    theirs, ours = socket.socketpair()
    with theirs, ours, ours.makefile("rb", buffering=0) as body:
        theirs.sendall(b"x" * 5000 + b"next request")
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.input": body}
        uploads.drain(WSGIRequest({**environ, "CONTENT_LENGTH": "5000", "gunicorn.socket": ours}))
        assert ours.recv(100) == b"next request", "the connection lives"
