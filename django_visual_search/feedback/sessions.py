"""Sessions: pseudonyms of visitors and of the networks they come from, which change with every period.

A pseudonym is an HMAC-SHA256 with a key made from ``SECRET_KEY`` and the day on which the period began
(``VISUAL_SEARCH["SESSION_DAYS"]``). Periods are whole days in UTC. Without ``SECRET_KEY`` a pseudonym identifies no
visitor; with it one can test whether a pseudonym is of a given address and browser, or of a given user.

An *identity* is the text that a pseudonym is made from: a user's primary key, or an address and a browser. Addresses
are stored nowhere.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string

from ..conf import conf
from ..conf.rules import LONGEST_PERIOD

logger = logging.getLogger("django_visual_search")

VISITOR_PREFIX = 64
"""Bits of an IPv6 address that stay the same for one visitor: devices change the others every day (RFC 8981)."""
NETWORK_PREFIX = 48
"""Bits of an IPv6 address that one customer of a provider may have alone (RFC 6177)."""
SESSION_SALT = "django_visual_search.feedback"
EPOCH = date(1970, 1, 1)
SESSION, NETWORK = "session", "network"


def session_of(request: Any, at: datetime | None = None) -> str:
    """Return the visitor's pseudonym in the period of ``at`` (now): 64 hexadecimal digits.

    A visitor is the user who is logged in, else an address and a browser, which are not stored. Needs no cookie.
    """
    return pseudonym(SESSION, identity_of(request), period_of(at))


def session_of_user(user: Any, at: datetime | None = None) -> str:
    """Return the pseudonym of a user (or a user's primary key) in the period of ``at`` (now)."""
    return pseudonym(SESSION, user_identity(user), period_of(at))


def ip_network_of(request: Any, at: datetime | None = None) -> str:
    """Return the pseudonym of the network that a visitor comes from, whoever is logged in."""
    return pseudonym(NETWORK, network_part(client_address(request)), period_of(at))


def identity_of(request: Any) -> str:
    user = user_of(request)
    return visitor_identity(request) if user is None else user_identity(user)


def user_identity(user: Any) -> str:
    return f"user\0{getattr(user, 'pk', user)}"


def visitor_identity(request: Any) -> str:
    return "\0".join(["visitor", visitor_part(client_address(request)), request.META.get("HTTP_USER_AGENT", "")])


def user_of(request: Any) -> Any:
    """Return the user who is logged in, or None. Also where a view authenticates nobody, as ``FeedbackView``."""
    user = getattr(request, "user", None)
    if (user is None or not user.is_authenticated) and getattr(request, "session", None) is not None:
        user = auth.get_user(request)
    return user if user is not None and user.is_authenticated else None


def period_of(at: datetime | None = None) -> date:
    """Return the day on which the period of ``at`` (now) began."""
    return _period(_day(at or timezone.now()))


def pseudonym(kind: str, identity: str, period: date, secret: Any = None) -> str:
    """Return 64 hexadecimal digits, by ``secret`` (``SECRET_KEY``)."""
    return salted_hmac(f"{SESSION_SALT}.{kind}.{period}", identity, secret, algorithm="sha256").hexdigest()


def sessions_between(identities: Iterable[str], first: datetime, last: datetime) -> list[str]:
    """Return the pseudonyms of these identities in that time, also by ``SECRET_KEY_FALLBACKS``."""
    return _sessions(identities, sorted({_period(day) for day in _days(_day(first), _day(last))}))


def possible_sessions(identities: Iterable[str], first: datetime, last: datetime) -> list[str]:
    """Return the same for any ``SESSION_DAYS`` in that time, so that any day may have begun a period."""
    return _sessions(identities, _days(_day(first) - timedelta(days=LONGEST_PERIOD), _day(last)))


def _sessions(identities: Iterable[str], periods: list[date]) -> list[str]:
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [
        pseudonym(SESSION, identity, period, secret)
        for identity in identities
        for period in periods
        for secret in secrets
    ]


def _period(day: date) -> date:
    return day - timedelta(days=(day - EPOCH).days % conf.SESSION_DAYS)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


# Addresses and networks


def client_address(request: Any) -> str:
    """Return the visitor's IP address: ``VISUAL_SEARCH["CLIENT_ADDRESS"]``'s, else the connection's.

    Headers such as X-Forwarded-For are not trusted: any client can write them.
    """
    function = conf.CLIENT_ADDRESS
    if function is not None:
        return str((import_string(function) if isinstance(function, str) else function)(request) or "")
    address = str(request.META.get("REMOTE_ADDR") or "")
    if ("HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META) and is_local(address):
        _warn_of_proxy()
    return address


@functools.cache
def _warn_of_proxy() -> None:
    """Warn once in a process."""
    logger.warning(
        "visual search: requests come through a proxy, so all visitors have the same address and count as few. "
        "Set VISUAL_SEARCH['CLIENT_ADDRESS'] to a function that takes the request and returns the visitor's address."
    )


def is_local(address: str) -> bool:
    """Return whether the address is of this machine or network. A Unix socket has none, and is local."""
    found = _parsed(address)
    return found is None or not found.is_global


def visitor_part(address: str) -> str:
    """Return the part that distinguishes visitors: all of an IPv4 address, the first 64 bits of an IPv6 address."""
    return _prefix(address, VISITOR_PREFIX)


def network_part(address: str) -> str:
    """Return the part that one person may control: an IPv4 address, or the first 48 bits of an IPv6 address."""
    return _prefix(address, NETWORK_PREFIX)


def _prefix(address: str, bits: int) -> str:
    found = _parsed(address)
    if not isinstance(found, ipaddress.IPv6Address):
        return address if found is None else str(found)
    return str(ipaddress.ip_network((int(found), bits), strict=False).network_address)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
