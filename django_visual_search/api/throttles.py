"""Limits on who sends requests: a rate for each visitor, and no reports from pages of other sites.

``VISUAL_SEARCH["THROTTLE_RATES"]`` has a rate for each kind of request: similar, photo, text and feedback.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.http import is_same_domain
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle

from ..conf import DEFAULTS, conf
from ..feedback.sessions import client_address, is_local, network_part


class VisualSearchThrottle(UserRateThrottle):
    """A rate by user, or by address for the anonymous. None is no limit.

    The address is that of ``VISUAL_SEARCH["CLIENT_ADDRESS"]``, else DRF's (``NUM_PROXIES``). Where neither is set and
    the connection comes from the open internet, it is the connection's: DRF would trust a header that anybody can
    write. Of an IPv6 address the first 48 bits count, all of which one person may control.
    """

    kind = ""

    def get_rate(self) -> str | None:
        rate: str | None = {**DEFAULTS["THROTTLE_RATES"], **conf.THROTTLE_RATES}[self.kind]
        return rate

    def get_ident(self, request: Request) -> str:
        direct = api_settings.NUM_PROXIES is None and not is_local(str(request.META.get("REMOTE_ADDR") or ""))
        address = str(client_address(request) if conf.CLIENT_ADDRESS or direct else super().get_ident(request))
        # A header can be longer and stranger than a cache key may be.
        return hashlib.sha256(network_part(address).encode()).hexdigest()

    @property
    def scope(self) -> str:
        return f"visual_search_{self.kind}"


class SimilarThrottle(VisualSearchThrottle):
    """*Similar items*, and further pages of any search."""

    kind = "similar"


class PhotoThrottle(VisualSearchThrottle):
    kind = "photo"


class TextThrottle(VisualSearchThrottle):
    kind = "text"


class FeedbackThrottle(VisualSearchThrottle):
    kind = "feedback"


SAME_SITE = ("same-origin", "same-site", "none")
"""Values of Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/) that a page of another site never sends."""


def is_cross_site(request: HttpRequest) -> bool:
    """Return whether a browser sends this from another site's page, and ``CSRF_TRUSTED_ORIGINS`` doesn't name it.

    Browsers write both headers, and pages can't. Other programs write anything or nothing, but report from their own
    address only.
    """
    origin, site = (request.META.get(f"HTTP_{name}", "") for name in ("ORIGIN", "SEC_FETCH_SITE"))
    if site in SAME_SITE or not (origin or site):
        return False
    try:
        sender = urlsplit(origin.lower())
    except ValueError:
        return True
    if any(_matches(sender, urlsplit(trusted.lower())) for trusted in settings.CSRF_TRUSTED_ORIGINS):
        return False
    # Browsers that send only the origin are older than 2023.
    return bool(site) or sender.netloc != request.get_host().lower()


def _matches(sender: tuple[str, ...], trusted: tuple[str, ...]) -> bool:
    """Compare scheme and host; ``*.example.com`` stands for all its subdomains."""
    return sender[0] == trusted[0] and is_same_domain(sender[1], trusted[1].removeprefix("*"))
