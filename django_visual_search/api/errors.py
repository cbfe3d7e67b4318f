"""What can go wrong, in the shapes of Django REST framework."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent, TooManyFilesSent
from django.http import UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ParseError, ValidationError

from ..extractors import ExtractorUnavailable
from ..images import ImageRefused
from ..search.closeness import ConfidenceUnknown
from ..storefront.gate import Busy

logger = logging.getLogger("django_visual_search.api")

STATUS = {
    "too_large": status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    "format": status.HTTP_415_UNSUPPORTED_MEDIA_TYPE,
    "heic": status.HTTP_415_UNSUPPORTED_MEDIA_TYPE,
}
"""HTTP status of a refused photo by its code (``images.CODES``); 400 for the others."""


class Refused(APIException):
    """Answered as ``{"detail": "a sentence", "code": "for programs"}``."""

    def __init__(self, message: Any, code: str, status_code: int = status.HTTP_400_BAD_REQUEST) -> None:
        super().__init__({"detail": ErrorDetail(message, code), "code": code})
        self.status_code = status_code


class TooBusy(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "busy"

    def __init__(self, busy: Busy) -> None:
        message = _("Too many photos are being searched by at the moment. Try again in a few seconds.")
        super().__init__({"detail": ErrorDetail(message, "busy"), "code": "busy"})
        self.wait = busy.retry_after  # the exception handler makes it the header Retry-After


def too_large(most: int, hint: Any = "") -> Refused:
    message = _("The request is larger than %(size).3g MB.") % {"size": most / 2**20}
    return Refused(f"{message} {hint}".strip(), "too_large", status.HTTP_413_REQUEST_ENTITY_TOO_LARGE)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Around a photo search: what it raises for a photo, for want of a slot or of the extractor, as an APIException."""
    try:
        yield
    except ImageRefused as refused:
        raise Refused(str(refused), refused.code, STATUS.get(refused.code, 400)) from refused
    except Busy as busy:
        raise TooBusy(busy) from busy
    except ExtractorUnavailable as e:
        logger.exception("Photo search is not available.")  # its message is for who runs the shop
        message = _("Photo search is not available at the moment.")
        raise Refused(message, "unavailable", status.HTTP_503_SERVICE_UNAVAILABLE) from e


def as_api_exception(exc: Exception) -> Exception:
    """What is no fault of ours, as an APIException: what Django raises while it reads a request that is too large,
    malformed or cut off, and a confidence that was asked for and never learned."""
    if isinstance(exc, RequestDataTooBig):
        return Refused(
            _("The request's data is too large. Send the photo as a file, by multipart/form-data."), "too_large", 413
        )
    if isinstance(exc, ConfidenceUnknown):
        return ValidationError({"min_confidence": [_("How sure a hit is has not been learned here.")]}, code="unknown")
    if isinstance(exc, TooManyFieldsSent | TooManyFilesSent):
        return Refused(_("The request has too many fields."), "too_many_fields")
    if isinstance(exc, SuspiciousOperation | MultiPartParserError | UnreadablePostError):
        return ParseError(_("The request can't be read: it is malformed or was cut off."))
    return exc
