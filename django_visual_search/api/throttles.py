"""How often one visitor may ask: a rate for each kind of request, from ``VISUAL_SEARCH["THROTTLE_RATES"]``."""

from __future__ import annotations

import hashlib

from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle

from ..conf import DEFAULTS, conf
from ..feedback.addresses import address_of, is_inside, visitor_part


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
