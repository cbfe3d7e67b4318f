"""Where a visitor comes from. Addresses are only ever passed on to be made into pseudonyms."""

from __future__ import annotations

import functools
import ipaddress
import logging
from typing import Any

from django.utils.module_loading import import_string

from ..conf import conf

logger = logging.getLogger("django_visual_search")

VISITOR_PREFIX = 64
"""Bits of an IPv6 address that stay the same for one visitor: devices change the others every day (RFC 8981)."""
NETWORK_PREFIX = 48
"""Bits of an IPv6 address that one customer of a provider may have to himself (RFC 6177)."""


def address_of(request: Any) -> str:
    """The visitor's address: what ``VISUAL_SEARCH["CLIENT_ADDRESS"]`` says, else what the connection came from.

    Headers such as X-Forwarded-For are not believed: whoever sends a request writes them.
    """
    function = conf.CLIENT_ADDRESS
    if function is not None:
        return str((import_string(function) if isinstance(function, str) else function)(request) or "")
    address = str(request.META.get("REMOTE_ADDR") or "")
    if ("HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META) and is_inside(address):
        _say_that_all_look_the_same()
    return address


@functools.cache
def _say_that_all_look_the_same() -> None:
    """Once in a process."""
    logger.warning(
        "visual search: requests come through a proxy, so all visitors have the same address and count as few. "
        "Set VISUAL_SEARCH['CLIENT_ADDRESS'] to a function that takes the request and returns the visitor's address."
    )


def is_inside(address: str) -> bool:
    """Whether it is of this machine or network; a Unix socket has none."""
    found = _parsed(address)
    return found is None or not found.is_global


def visitor_part(address: str) -> str:
    """What tells visitors apart by their address: all of an IPv4 address, the first 64 bits of an IPv6 address."""
    return _prefix(address, VISITOR_PREFIX)


def network_part(address: str) -> str:
    """What one person may command: an IPv4 address, or the first 48 bits of an IPv6 address."""
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
