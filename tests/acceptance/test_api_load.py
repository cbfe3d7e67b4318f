"""Photo search on a real server: whatever comes at once, everybody gets an answer. How fast: ``tests.benchmarks``."""

import json
import threading

import pytest

from .. import load
from ..example import example  # noqa: F401 - a fixture
from ..load import PHOTO, request

UPLOADS = 200
FOREIGN = {"Content-Type": f"multipart/form-data; boundary={load.BOUNDARY}"}


@pytest.fixture(scope="module")
def shop(example):  # noqa: F811
    keys = load.stock(example, 40)
    photo = example.folder / "photo.jpg"
    photo.write_bytes(next((example.state / "media" / "products").iterdir()).read_bytes())
    with load.gunicorn(example, workers=2, threads=8, DEBUG="0", SECRET_KEY="x" * 50, ALLOWED_HOSTS="*") as address:
        yield address, keys, photo


def test_200_photos_at_once(shop):
    """Each is searched by or told when to come back, and similar items are answered all the while."""
    address, keys, photo = shop
    answers = []
    uploads = threading.Thread(target=lambda: answers.extend(load.upload_all(address, photo, UPLOADS)))
    uploads.start()
    similar = load.similar_items(address, keys, lambda count: not uploads.is_alive())  # each of them is a 200
    uploads.join()
    assert len(answers) == UPLOADS
    statuses = [status for tries, *_ in answers for status in tries]
    assert set(statuses) <= {200, 429, 503}
    assert 200 in statuses
    assert similar


def test_who_comes_back_is_served(shop):
    address, _, photo = shop
    answers = load.upload_all(address, photo, 30, patience=120)
    assert [tries[-1] for tries, *_ in answers] == [200] * 30


def test_what_is_refused_unread_gets_its_answer(shop):
    """Not a reset connection, though the server has read nothing of the body."""
    address, _, photo = shop
    status, _, body = request(address, "POST", PHOTO, b"x" * 60_000_000, FOREIGN)
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    body = load.multipart(photo.read_bytes() + b"\0" * 3_000_000)
    answers = [request(address, "POST", PHOTO, body, FOREIGN) for _ in range(70)]  # both processes count for themselves
    assert {status for status, *_ in answers} == {200, 429}
    assert all(int(headers["Retry-After"]) > 0 for status, headers, _ in answers if status == 429)
