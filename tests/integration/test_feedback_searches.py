"""The log of searches: one row each, written after the response without delaying it."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.core.signals import request_finished
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from django_visual_search import feedback, search
from django_visual_search.feedback import privacy, searches
from django_visual_search.feedback.sessions import session_of_user
from django_visual_search.models import SearchLog
from django_visual_search.search import SearchResults
from django_visual_search.search.results import read_token

from ..conftest import embed_all, picture_file
from ..testshop.models import Category, Product
from ..visits import moved_to, ranking, visitor

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)
seen = []


def found(*args, **kwargs):
    results = SearchResults([], ranking([1, 2, 3], *args, shown=0, **kwargs))
    return results


def page(request):
    """Return a page after the requested number of searches."""
    for query in range(int(request.GET.get("searches", 1))):
        feedback.log_search(found(query + 1), 1.5, request)
    seen.append(SearchLog.objects.count())
    if "fail" in request.GET:
        raise RuntimeError("after the search")
    if "stream" in request.GET:
        return StreamingHttpResponse(iter([b"a", b"b"]))
    return HttpResponse("ok")


def plain_page(request):
    """Leave no connection open in an async server's thread."""
    feedback.log_search(found(1), 1.5, request)
    feedback.log_search(found(2), 1.5, request)
    return HttpResponse("ok")


async def async_page(request):
    feedback.log_search(found(1), 1.5, request)
    return HttpResponse("ok")


urlpatterns = [path("page/", page), path("plain/", plain_page), path("async/", async_page)]


@pytest.fixture(autouse=True)
def nothing_waits():
    seen.clear()
    searches._waiting_rows().clear()
    yield
    assert not searches._waiting_rows()


@pytest.fixture
def products():
    made = [Product.objects.create(image=picture_file(seed)) for seed in range(6)]
    embed_all()
    return made


class TestRows:
    def test_similar_items(self, products):
        results = search.similar_to(products[0], limit=3)
        with moved_to(NOW):
            feedback.log_search(results, 3.5)
        row = SearchLog.objects.get()
        assert (row.id.hex, row.created_at, row.label) == (results.ranking.search, NOW, "testshop.Product.embedding")
        assert (row.kind, row.query_id) == ("product", str(products[0].pk))
        assert row.extractor_key == results.extractor_key
        assert (row.results, row.exact, row.milliseconds, row.session) == (3, True, 3.5, "")
        assert row.best_similarity == pytest.approx(results[0].similarity)
        assert row.vector is None

    def test_a_photo(self, products):
        feedback.log_search(search.search_by_image(picture_file(2), "testshop.Product"), 3.5)
        row = SearchLog.objects.get()
        assert (row.kind, row.query_id, row.results) == ("photo", "", 6)
        assert row.best_similarity > 0.999

    def test_the_nearest_is_not_always_first(self, products):
        results = search.similar_to(products[0], ranking=[lambda candidates, context: candidates[::-1]])
        feedback.log_search(results, 3.5)
        assert SearchLog.objects.get().best_similarity == pytest.approx(results[-1].similarity)

    def test_nothing_found(self):
        feedback.log_search(search.similar_to(Product.objects.create()), 3.5)
        row = SearchLog.objects.get()
        assert (row.results, row.best_similarity, row.vector) == (0, None, None)

    def test_pages_of_one_search_are_one_row(self, products):
        results = search.similar_to(products[0], limit=2, depth=5)
        feedback.log_search(results, 3.5)
        while results.ranking.more:
            results = search.next_page(read_token(results.token), limit=2)
            feedback.log_search(results, 3.5)
        assert SearchLog.objects.get().results == 5

    def test_a_last_page_whose_products_are_gone(self, products):
        first = search.similar_to(products[0], limit=2, depth=5)
        feedback.log_search(first, 3.5)
        last = search.next_page(read_token(first.token), within=Product.objects.none())
        feedback.log_search(last, 3.5)
        assert (len(last), SearchLog.objects.count()) == (0, 1)

    def test_a_later_page_is_not_logged(self, products):
        results = search.similar_to(products[0], limit=2, depth=5)
        feedback.log_search(search.next_page(read_token(results.token), limit=2), 3.5)
        assert not SearchLog.objects.exists()

    def test_the_same_results_twice(self, caplog):
        results = found(1)
        feedback.log_search(results, 3.5)
        feedback.log_search(results, 3.5)
        assert SearchLog.objects.count() == 1
        assert not caplog.records


class TestSettings:
    def test_no_log(self, settings, products):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_SEARCHES": False}
        feedback.log_search(search.similar_to(products[0]), 3.5)
        feedback.log_search(search.similar_to(products[0]), 3.5, visitor())
        assert not SearchLog.objects.exists()

    def test_vectors(self, settings, products):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_VECTORS": True}
        for results in (
            search.similar_to(products[0]),
            search.search_by_image(picture_file(0), "testshop.Product"),
            search.similar_to(Product.objects.create()),
        ):
            feedback.log_search(results, 3.5)
            row = SearchLog.objects.get(id=uuid.UUID(results.ranking.search))
            if results.vector is None:
                assert row.vector is None
            else:
                assert np.allclose(
                    privacy._vector_numbers(row.vector), np.asarray(results.vector, dtype=np.float32), atol=1e-3
                )


class TestAfterTheResponse:
    def test_no_query_in_the_page_and_one_row_after_it(self, django_assert_num_queries):
        client = Client(HTTP_USER_AGENT="Firefox", REMOTE_ADDR="192.0.2.1")
        with django_assert_num_queries(4):  # the page's own count, savepoint, insert, release
            client.get("/page/?searches=3")
        assert seen == [0]
        assert SearchLog.objects.count() == 3
        assert set(SearchLog.objects.values_list("session", flat=True)) == {feedback.session_of(visitor())}

    def test_the_page_does_not_vary_by_cookie(self):
        """It would if the log looked for the user, and caches could not store it."""
        response = Client().get("/page/")
        assert "Vary" not in response.headers

    def test_a_user(self):
        user = get_user_model().objects.create_user("ada")
        client = Client()
        client.force_login(user)
        client.get("/page/")
        assert SearchLog.objects.get().session == session_of_user(user)

    def test_a_page_that_fails_afterwards(self):
        client = Client(raise_request_exception=False)
        assert client.get("/page/?fail").status_code == 500
        assert SearchLog.objects.count() == 1

    def test_a_streamed_page(self):
        response = Client().get("/page/?stream")
        assert not SearchLog.objects.exists()
        assert b"".join(response.streaming_content) == b"ab"
        assert SearchLog.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_atomic_requests(self, settings, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        client = Client(raise_request_exception=False)
        assert client.get("/page/?fail").status_code == 500
        client.get("/page/")
        assert SearchLog.objects.count() == 2

    @pytest.mark.django_db(transaction=True)
    def test_an_async_page(self):
        response = asyncio.run(AsyncClient().get("/async/"))
        assert response.status_code == 200
        assert SearchLog.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_a_page_of_an_async_server(self):
        assert asyncio.run(AsyncClient().get("/plain/")).status_code == 200
        assert SearchLog.objects.count() == 2

    def test_the_time_is_that_of_the_search(self):
        with moved_to(NOW):
            feedback.log_search(found(1), 1.5, visitor())
        with moved_to(NOW + timedelta(days=2)):
            searches.write_searches()
        row = SearchLog.objects.get()
        assert (row.created_at, row.session) == (NOW, feedback.session_of(visitor(), NOW))

    def test_scripts_without_the_end_of_a_request(self):
        request, waiting = visitor(), searches.MOST_WAITING
        for query in range(2 * waiting + 5):
            feedback.log_search(found(query + 1), 1.5, request)
        assert SearchLog.objects.count() == 2 * waiting
        searches.write_searches()
        assert SearchLog.objects.count() == 2 * waiting + 5

    def test_without_searches_no_query(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            searches.write_searches()


class TestErrors:
    @pytest.fixture
    def failing(self):
        table = "ALTER TABLE django_visual_search_searchlog"
        with connection.cursor() as cursor:
            cursor.execute(f"{table} ADD CONSTRAINT none CHECK (false) NOT VALID")
        yield
        with connection.cursor() as cursor:
            cursor.execute(f"{table} DROP CONSTRAINT none")

    def test_a_row_that_cannot_be_written(self, failing, caplog):
        assert Client().get("/page/?searches=2").status_code == 200
        assert "2 searches could not be logged" in caplog.text
        assert not SearchLog.objects.exists()

    def test_the_same_without_a_request(self, failing, caplog):
        with transaction.atomic():
            Category.objects.create(name="the caller's own")
            feedback.log_search(found(1), 1.5)
        assert Category.objects.count() == 1
        assert "1 searches could not be logged" in caplog.text

    def test_a_visitor_without_address(self, settings, caplog):
        settings.VISUAL_SEARCH = {"CLIENT_ADDRESS": "tests.integration.test_feedback_searches.broken"}
        assert Client().get("/page/").status_code == 200
        assert "KeyError" in caplog.text

    @pytest.mark.parametrize("milliseconds", [float("nan"), float("inf"), -1, 0])
    def test_odd_times(self, milliseconds):
        feedback.log_search(found(1), milliseconds)
        assert SearchLog.objects.count() == 1


def broken(request):
    raise KeyError("X-Real-IP")


@pytest.mark.django_db(transaction=True)
class TestConnections:
    def test_closed_without_persistent_connections(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
        feedback.log_search(found(1), 1.5, visitor())
        connection.close()
        connection.connect()
        request_finished.send(sender=None)
        assert connection.connection is None
        assert SearchLog.objects.count() == 1

    def test_open_with_persistent_connections(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
        connection.close()
        connection.connect()
        feedback.log_search(found(1), 1.5, visitor())
        request_finished.send(sender=None)
        assert connection.connection is not None
        assert SearchLog.objects.count() == 1
