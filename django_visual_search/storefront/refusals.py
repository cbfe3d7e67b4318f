"""The reasons for refused photo searches, for pages and API: entry functions ``refusal_of`` and ``throttled``."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from django.db import Error as DatabaseFailure
from django.utils.translation import gettext as _

from ..decoding.decoder import DecoderLost
from ..decoding.pipes import HungUpError
from ..extractors import ExtractorUnavailable
from ..images import ImageRefused
from ..search import TextUnavailable
from ..search.confidence import ConfidenceUnknown
from .gate import Busy
from .handles import HandleExpired

logger = logging.getLogger("django_visual_search")

STATUS = {"too_large": 413, "format": 415, "heic": 415}
"""HTTP status of a refused photo by its code (``images.CODES``); 400 for the others."""

EXPIRED = 410
"""HTTP status (Gone) of a search whose handle doesn't hold."""

REPAIR_SECONDS = 60
"""Seconds until the next try if the extractor doesn't run: first, someone has to repair it."""

PHOTO_ERRORS = (ImageRefused, Busy, DecoderLost, HungUpError, HandleExpired, ExtractorUnavailable, DatabaseFailure)
"""The errors of a photo search: for the photo itself, without a free slot or enough time, after the visitor hung up, by
a handle that isn't valid, and without an extractor that runs or a database that answers."""


@dataclass(frozen=True)
class Refusal:
    """A sentence for people, a code for programs, and the HTTP status."""

    status: int
    code: str
    sentence: str
    retry_after: int | None = None
    """Seconds, for the header Retry-After."""

    @property
    def page_status(self) -> int:
        """HTTP status of a page that shows its form again: 422 for a refused photo."""
        return self.status if self.retry_after or self.status == EXPIRED else 422


def translated(error: ImageRefused) -> str:
    """Return why a picture is refused in the current language."""
    sentence = _(error.message)
    return sentence % error.values if error.values else sentence


def throttled(kind: str, wait: float | None) -> Refusal:
    """Return how to refuse a visitor beyond a rate of ``THROTTLE_RATES``. ``wait``: seconds, if known."""
    many, often = (
        _("You have sent many photos. Try again in a minute."),
        _("You have searched very often. Try again in a minute."),
    )
    return Refusal(429, "throttled", many if kind == "photo" else often, math.ceil(wait or 60))


def refusal_of(error: Exception) -> Refusal:
    """Return how to refuse a search that ended with ``error``.

    ``error``: one of PHOTO_ERRORS, ConfidenceUnknown or TextUnavailable. Faults that need a repair are logged as well.
    """
    if isinstance(error, ImageRefused):
        return Refusal(STATUS.get(error.code, 400), error.code, translated(error))
    if isinstance(error, Busy | DecoderLost):
        sentence = _("Too many photo searches are running. Try again in a few seconds.")
        return Refusal(503, "busy", sentence, (error if isinstance(error, Busy) else Busy()).retry_after)
    if isinstance(error, HungUpError):
        return Refusal(400, "hung_up", _("The connection was closed before the photo was decoded."))
    if isinstance(error, HandleExpired):
        return Refusal(EXPIRED, "handle_expired", _("This search has expired. Send the photo again."))
    if isinstance(error, ConfidenceUnknown):
        return Refusal(400, "unknown", _("Confidence has not been learned here."))
    if isinstance(error, DatabaseFailure):
        logger.error("visual search: the database fails: %s", error, exc_info=error)
        return Refusal(503, "database", _("Search is not available at the moment."), REPAIR_SECONDS)
    if isinstance(error, TextUnavailable):
        logger.error("visual search: no search by text: %s", error)
        return Refusal(400, "unavailable", _("Search by text has not been set up here."))
    # Its message is for those who run the shop.
    logger.error("visual search: no photo search: %s", error, exc_info=error)
    return Refusal(503, "unavailable", _("Photo search is not available at the moment."), REPAIR_SECONDS)
