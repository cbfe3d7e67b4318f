"""How often one visitor may ask: a rate for each kind of request, from ``VISUAL_SEARCH["THROTTLE_RATES"]``.

Whose page a browser reports from: any site could make its own visitors speak as if they were the shop's.
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
from ..feedback.sessions import address_of, is_inside, visitor_part


class VisualSearchThrottle(UserRateThrottle):
    """By user, or by address for the anonymous. A rate of None is no limit.

    The address is that of ``VISUAL_SEARCH["CLIENT_ADDRESS"]``; without it, what DRF takes for it (``NUM_PROXIES``).
    Where neither is set and the connection comes from the open internet, it is the connection's: DRF would believe a
    header that anybody can write.
    """

    kind = ""

    def get_rate(self) -> str | None:
        rate: str | None = {**DEFAULTS["THROTTLE_RATES"], **conf.THROTTLE_RATES}[self.kind]
        return rate

    def get_ident(self, request: Request) -> str:
        direct = api_settings.NUM_PROXIES is None and not is_inside(str(request.META.get("REMOTE_ADDR") or ""))
        address = str(address_of(request) if conf.CLIENT_ADDRESS or direct else super().get_ident(request))
        # A header can be longer and stranger than a cache's key may be.
        return hashlib.sha256(visitor_part(address).encode()).hexdigest()

    @property
    def scope(self) -> str:
        return f"visual_search_{self.kind}"


class SimilarThrottle(VisualSearchThrottle):
    """*Similar items*, and further pages of any search."""

    kind = "similar"


class PhotoThrottle(VisualSearchThrottle):
    kind = "photo"


class FeedbackThrottle(VisualSearchThrottle):
    kind = "feedback"


OWN = ("same-origin", "same-site", "none")
"""Values of Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/) that a page of another site never has."""


def is_foreign(request: HttpRequest) -> bool:
    """Whether the page is of another site, and not of one that ``CSRF_TRUSTED_ORIGINS`` names.

    Browsers write both headers, and pages can't. Programs that are no browsers write what they like or nothing, but
    have only their own address to speak from.
    """
    origin, site = (request.META.get(f"HTTP_{name}", "") for name in ("ORIGIN", "SEC_FETCH_SITE"))
    if site in OWN or not (origin or site):
        return False
    try:
        said = urlsplit(origin.lower())
    except ValueError:
        return True
    if any(_matches(said, urlsplit(trusted.lower())) for trusted in settings.CSRF_TRUSTED_ORIGINS):
        return False
    # Browsers that say no more than the origin are older than 2023.
    return bool(site) or said.netloc != request.get_host().lower()


def _matches(said: tuple[str, ...], trusted: tuple[str, ...]) -> bool:
    """Scheme and host; ``*.example.com`` stands for all its subdomains."""
    return said[0] == trusted[0] and is_same_domain(said[1], trusted[1].removeprefix("*"))
