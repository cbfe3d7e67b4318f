"""``POST feedback/``: browsers report with a signed token and nothing else."""

import json

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from django_visual_search.models import Feedback

from ..shop_api import ids, make_products, post_json

pytestmark = pytest.mark.django_db
PATH = "/visual-search/feedback/"


@pytest.fixture(autouse=True)
def fresh_rates():
    cache.clear()


@pytest.fixture
def shown(client):
    """Return the token of a page and the keys of the products on it."""
    product, *_ = make_products(12)
    answer = client.get(f"/api/products/{product.pk}/similar/")
    return answer.json()["token"], ids(answer)


def report(client, token, *events, **extra):
    data = [{"kind": kind, "product": product} for kind, product in events]
    return post_json(client, PATH, {"token": token, "events": data}, **extra)


def test_events_are_counted_once(client, shown):
    token, keys = shown
    answer = report(client, token, ("click", keys[0]), ("impression", keys[1]), ("click", keys[0]))
    assert (answer.status_code, answer.json()) == (202, {"counted": 2})
    answer = report(client, token, ("click", keys[0]), ("favourite", keys[0]))
    assert (answer.status_code, answer.json()) == (202, {"counted": 1})
    event = Feedback.objects.get(kind="favourite")
    assert (event.object_id, event.rank, event.query_kind) == (keys[0], 1, "product")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/plain;charset=UTF-8"])
def test_a_beacon_needs_no_csrf_token_and_no_cookie(shown, content_type):
    """Beacons send text/plain, which needs no preflight."""
    token, keys = shown
    client = Client(enforce_csrf_checks=True)
    headers = {"origin": "https://www.x.test", "sec-fetch-site": "same-site"}
    answer = report(client, token, ("click", keys[0]), content_type=content_type, headers=headers)
    assert answer.status_code == 202
    assert not answer.cookies


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),  # an app
        ({"origin": "http://testserver"}, 202),
        ({"origin": "HTTP://TestServer"}, 202),
        ({"origin": "http://testserver", "sec-fetch-site": "same-origin"}, 202),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 202),  # a page that sends no referrer
        ({"origin": "https://shop.example", "sec-fetch-site": "same-site"}, 202),
        ({"origin": "https://trusted.example", "sec-fetch-site": "cross-site"}, 202),
        ({"origin": "https://trusted.example"}, 202),
        ({"origin": "https://a.b.many.example", "sec-fetch-site": "cross-site"}, 202),
        ({"origin": "http://trusted.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://a.trusted.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://eviltrusted.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "https://testserver.evil.example"}, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),  # a sandboxed frame
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "odd"}, 403),
    ],
)
def test_reports_from_other_sites_are_refused(client, shown, settings, headers, status):
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example", "https://*.many.example"]
    token, keys = shown
    answer = report(client, token, ("click", keys[0]), headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "foreign_origin"
        assert "CSRF_TRUSTED_ORIGINS" in answer.json()["detail"]
    assert Feedback.objects.filter(kind="click").exists() is (status == 202)


def test_without_a_length(client, shown):
    headers = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client.generic("POST", PATH, content_type="text/plain", **headers)
    assert (answer.status_code, answer.json()["code"]) == (411, "no_length")


def test_a_logged_in_user_needs_no_csrf_token(shown):
    token, keys = shown
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("ann"))
    assert report(client, token, ("click", keys[0])).json() == {"counted": 1}


def test_a_user_is_one_visitor_at_any_address(client, shown):
    token, keys = shown
    client.force_login(User.objects.create_user("ann"))
    assert report(client, token, ("click", keys[0])).json() == {"counted": 1}
    assert report(client, token, ("click", keys[0]), REMOTE_ADDR="10.9.9.9").json() == {"counted": 0}


def test_a_product_that_was_not_offered(client, shown):
    token, keys = shown
    answer = report(client, token, ("click", keys[0]), ("click", "999999"))
    assert (answer.status_code, answer.json()["code"]) == (400, "not_offered")
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("token", ["x", "", "a:b:c", "\0", "é", "x" * 100_000])
def test_forged_tokens(client, shown, token):
    answer = report(client, token, ("click", shown[1][0]))
    assert answer.status_code == 400
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("kind", ["purchase", "return", "nonsense", ""])
def test_kinds_that_browsers_may_not_report(client, shown, kind):
    token, keys = shown
    answer = report(client, token, (kind, keys[0]))
    assert answer.status_code == 400
    assert not Feedback.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"token": "x"}',
        '{"token": "x", "events": {}}',
        '{"token": "x", "events": []}',
        '{"token": "x", "events": ["click"]}',
        '{"token": "x", "events": [{"kind": "click"}]}',
        '{"token": "x", "events": [{"kind": "click", "product": ""}]}',
        '{"token": "x", "events": [{"kind": "click", "product": null}]}',
        '{"token": "x", "events": [{"kind": "click", "product": "\\u0000"}]}',
        '{"token": "x", "events": [{"kind": "click", "product": "\\ud800"}]}',
        '{"token": "\\ud800", "events": [{"kind": "click", "product": "1"}]}',
        '{"token": "x", "events": [{"kind": ["click"], "product": 1}]}',
        '{"token": 5, "events": [{"kind": "click", "product": 1e400}]}',
        "[" * 50_000,
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_malformed(client, body, content_type):
    answer = post_json(client, PATH, body, content_type=content_type)
    assert answer.status_code == 400
    assert answer.json()


def test_more_events_than_a_page_can_have(client, shown):
    token, keys = shown
    answer = report(client, token, *[("click", keys[0])] * 201)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_event")


def test_too_large(client):
    answer = post_json(client, PATH, json.dumps({"token": "x" * 300_000}))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_other_types(client):
    assert client.post(PATH, {"token": "x"}).status_code == 415
    assert post_json(client, PATH, "{}", content_type="text/plain; charset=utf-16").status_code == 415
    assert client.get(PATH).status_code == 405


def test_rate(client, shown, settings):
    token, keys = shown
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "THROTTLE_RATES": {"feedback": "2/hour"}}
    answers = [report(client, token, ("click", keys[0])) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2]["Retry-After"]) > 60
