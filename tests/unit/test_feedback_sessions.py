"""Pseudonyms: who counts as the same visitor, and for how long."""

import itertools
import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model, login
from django.contrib.sessions.backends.db import SessionStore

from django_visual_search import feedback
from django_visual_search.feedback import sessions
from django_visual_search.feedback.sessions import (
    ip_network_of,
    period_of,
    possible_sessions,
    session_of_user,
    sessions_between,
    user_identity,
)

from ..visits import moved_to, visitor

NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)


@pytest.fixture(autouse=True)
def frozen():
    with moved_to(NOW):
        yield


def test_a_session_is_64_hexadecimal_digits():
    assert len(feedback.session_of(visitor())) == 64
    assert int(feedback.session_of(visitor()), 16)


def test_an_address_and_a_browser_make_a_visitor():
    same = feedback.session_of(visitor())
    assert feedback.session_of(visitor()) == same
    assert feedback.session_of(visitor(address="192.0.2.2")) != same
    assert feedback.session_of(visitor(agent="Chrome")) != same


def test_ends_of_address_and_browser_are_not_mixed_up():
    assert feedback.session_of(visitor("192.0.2.1", "1 Firefox")) != feedback.session_of(
        visitor("192.0.2.1 1", "Firefox")
    )


def test_a_request_without_address_and_browser_has_a_session_too():
    request = visitor()
    del request.META["REMOTE_ADDR"], request.META["HTTP_USER_AGENT"]
    assert len(feedback.session_of(request)) == 64


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::a", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8:1:2::a", "2001:0DB8:0001:0002::000A"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
    ],
)
def test_addresses_of_one_visitor(one, other):
    assert feedback.session_of(visitor(one)) == feedback.session_of(visitor(other))
    assert ip_network_of(visitor(one)) == ip_network_of(visitor(other))


def test_other_subnets_of_one_customer_are_other_visitors_of_the_same_network():
    one, other = visitor("2001:db8:1:2::a"), visitor("2001:db8:1:3::a")
    assert feedback.session_of(one) != feedback.session_of(other)
    assert ip_network_of(one) == ip_network_of(other)
    assert ip_network_of(one) != ip_network_of(visitor("2001:db8:2:2::a"))


def test_a_network_is_not_a_session():
    assert ip_network_of(visitor(agent="")) != feedback.session_of(visitor(agent=""))
    assert ip_network_of(visitor(agent="Chrome")) == ip_network_of(visitor(agent="Firefox"))


class TestUsers:
    @pytest.fixture
    def user(self, db):
        return get_user_model().objects.create_user("ada")

    def test_a_user_is_the_same_anywhere(self, user):
        there = feedback.session_of(visitor("192.0.2.1", "Firefox", user=user))
        assert feedback.session_of(visitor("198.51.100.7", "Chrome", user=user)) == there
        assert there == session_of_user(user) == session_of_user(user.pk)
        assert there != feedback.session_of(visitor())

    def test_a_user_whom_the_view_did_not_authenticate(self, user):
        request = visitor()
        request.session = SessionStore()
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        request.user = type(visitor().user)()
        assert feedback.session_of(request) == session_of_user(user)

    def test_a_session_without_a_user(self, db):
        request = visitor()
        request.session = SessionStore()
        assert feedback.session_of(request) == feedback.session_of(visitor())

    def test_a_request_without_users(self):
        request = visitor()
        del request.user
        assert feedback.session_of(request) == feedback.session_of(visitor())


class TestPeriods:
    def test_a_day_in_utc(self):
        day = feedback.session_of(visitor())
        with moved_to(NOW.replace(hour=0)):
            assert feedback.session_of(visitor()) == day
        with moved_to(NOW.replace(hour=23, minute=59)):
            assert feedback.session_of(visitor()) == day
        with moved_to(NOW + timedelta(days=1)):
            assert feedback.session_of(visitor()) != day
            assert ip_network_of(visitor()) != ip_network_of(visitor(), NOW)
        assert feedback.session_of(visitor(), NOW - timedelta(days=1)) != day

    @pytest.mark.parametrize("days", [1, 2, 7, 366])
    def test_periods_follow_each_other(self, settings, days):
        settings.VISUAL_SEARCH = {"SESSION_DAYS": days}
        starts = sorted({period_of(NOW + timedelta(days=number)) for number in range(3 * days)})
        assert {(after - before).days for before, after in itertools.pairwise(starts)} == {days}
        assert 3 <= len(starts) <= 4
        assert all(
            0 <= ((NOW + timedelta(days=n)).date() - period_of(NOW + timedelta(days=n))).days < days for n in range(9)
        )

    def test_sessions_of_some_days(self, settings):
        settings.VISUAL_SEARCH = {"SESSION_DAYS": 2}
        found = sessions_between([user_identity(7)], NOW - timedelta(days=5), NOW)
        assert set(found) == {session_of_user(7, NOW - timedelta(days=n)) for n in range(6)}
        assert len(found) == len(set(found)) <= 4

    def test_possible_sessions_depend_on_no_setting(self, settings):
        then = set()
        for days in (1, 3, 30):
            settings.VISUAL_SEARCH = {"SESSION_DAYS": days}
            then |= {session_of_user(7, NOW - timedelta(days=n)) for n in range(20)}
        assert then <= set(possible_sessions([user_identity(7)], NOW - timedelta(days=20), NOW))

    def test_a_new_secret_key(self, settings):
        before = session_of_user(7)
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
        assert session_of_user(7) != before
        assert sessions_between([user_identity(7)], NOW, NOW) == [session_of_user(7), before]
        settings.SECRET_KEY_FALLBACKS = []
        assert sessions_between([user_identity(7)], NOW, NOW) == [session_of_user(7)]


class TestProxies:
    @pytest.fixture(autouse=True)
    def forget(self):
        sessions._warn_of_proxy.cache_clear()
        yield
        sessions._warn_of_proxy.cache_clear()

    def test_headers_are_not_trusted(self, caplog):
        request = visitor("8.8.8.8", HTTP_X_FORWARDED_FOR="9.9.9.9")
        assert feedback.session_of(request) == feedback.session_of(visitor("8.8.8.8"))
        assert not caplog.records

    @pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", ""])
    def test_a_proxy_of_ones_own_is_warned_of_once(self, caplog, address):
        for number in range(3):
            feedback.session_of(visitor(address, HTTP_X_FORWARDED_FOR=f"9.9.9.{number}"))
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "CLIENT_ADDRESS" in record.getMessage()
        assert "9.9.9" not in record.getMessage()

    def test_no_proxy_no_warning(self, caplog):
        feedback.session_of(visitor("127.0.0.1"))
        assert not caplog.records

    @pytest.mark.parametrize("function", [f"{__name__}.real_ip", lambda request: real_ip(request)])
    def test_a_function_returns_the_address(self, settings, function, caplog):
        settings.VISUAL_SEARCH = {"CLIENT_ADDRESS": function}
        request = visitor("127.0.0.1", HTTP_X_REAL_IP="9.9.9.9", HTTP_X_FORWARDED_FOR="1.2.3.4, 9.9.9.9")
        assert feedback.session_of(request) == feedback.session_of(visitor(HTTP_X_REAL_IP="9.9.9.9"))
        assert feedback.session_of(request) != feedback.session_of(visitor(HTTP_X_REAL_IP="9.9.9.8"))
        assert ip_network_of(request) == ip_network_of(visitor(HTTP_X_REAL_IP="9.9.9.9"))
        assert not caplog.records


def real_ip(request):
    return request.META["HTTP_X_REAL_IP"]
