"""Errors as Django REST framework's exceptions, and request bodies.

A body is refused by its length before it is read, and parsed as bounded UTF-8.
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent, TooManyFilesSent
from django.db import Error as DatabaseFailure
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ParseError, UnsupportedMediaType, ValidationError
from rest_framework.parsers import JSONParser
from rest_framework.settings import api_settings

from ..fields.registry import embedding_fields
from ..search import TextUnavailable
from ..search.confidence import ConfidenceUnknown
from ..spaces.extractors import extractor_of
from ..storefront.refusals import PHOTO_ERRORS, refusal_of


class Refused(APIException):
    """A response ``{"detail": "a sentence", "code": "for programs"}``; ``wait``: seconds for the header Retry-After."""

    def __init__(
        self, message: Any, code: str, status_code: int = status.HTTP_400_BAD_REQUEST, wait: int | None = None
    ) -> None:
        super().__init__({"detail": ErrorDetail(message, code), "code": code})
        self.status_code = status_code
        self.wait = wait


def too_large(most: int, hint: Any = "") -> Refused:
    message = _("The request is larger than %(size).3g MB.") % {"size": most / 2**20}
    return Refused(f"{message} {hint}".strip(), "too_large", status.HTTP_413_REQUEST_ENTITY_TOO_LARGE)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors of a photo search into APIExceptions."""
    try:
        yield
    except PHOTO_ERRORS as error:
        refusal = refusal_of(error)
        raise Refused(refusal.sentence, refusal.code, refusal.status, refusal.retry_after) from error


def as_api_exception(exc: Exception) -> Exception:
    """Return the APIException for a fault of the client or of the database; other exceptions unchanged.

    A client's fault is what Django raises while it reads a request that is too large, malformed or cut off, a
    confidence that was never learned, a text that nothing here understands, and what a shop's filter refuses.
    """
    if isinstance(exc, RequestDataTooBig):
        return Refused(
            _("The request's data is too large. Send the photo as a file, by multipart/form-data."), "too_large", 413
        )
    if isinstance(exc, ConfidenceUnknown):
        return ValidationError({"min_confidence": [refusal_of(exc).sentence]}, code="unknown")
    if isinstance(exc, DatabaseFailure):
        refusal = refusal_of(exc)
        return Refused(refusal.sentence, refusal.code, refusal.status, refusal.retry_after)
    if isinstance(exc, TextUnavailable):
        return ValidationError({"text": [refusal_of(exc).sentence]}, code="unavailable")
    if isinstance(exc, TooManyFieldsSent | TooManyFilesSent):
        return Refused(_("The request has too many fields."), "too_many_fields")
    if isinstance(exc, ValidationError) and isinstance(exc.detail, list):  # as DRF's SearchFilter raises
        return ValidationError({api_settings.NON_FIELD_ERRORS_KEY: exc.detail})
    if isinstance(exc, SuspiciousOperation | MultiPartParserError | UnreadablePostError):
        return ParseError(_("The request can't be read: it is malformed or was cut off."))
    return exc


ROOM = 64 * 2**10
"""Bytes of an upload beside the photo."""


class BoundedJSONParser(JSONParser):
    """JSON; one that is nested too deeply for Python is a ParseError."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError(_("The JSON is nested too deeply.")) from None


class PlainTextJSONParser(BoundedJSONParser):
    """JSON as ``text/plain``, which a browser sends across origins without a preflight."""

    media_type = "text/plain"


def check_charset(request: HttpRequest) -> None:
    """Refuse JSON and forms that aren't UTF-8: Django accepts Python codecs that can't decode a form."""
    if request.encoding and codecs.lookup(request.encoding).name not in ("utf-8", "ascii"):
        raise UnsupportedMediaType(request.content_type, _("The request must be in UTF-8."))


def check_photo_length(request: HttpRequest) -> None:
    """Refuse by ``Content-Length``, before anything is read. Django itself reads no more than that many bytes.

    A file may have the extractor's ``max_bytes``; everything else is held in memory, limited by Django's
    ``DATA_UPLOAD_MAX_MEMORY_SIZE``.
    """
    most = max((extractor_of(field).spec.images.max_bytes for field in embedding_fields()), default=0) + ROOM
    memory = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if request.content_type != "multipart/form-data" and memory is not None:
        check_length(request, min(most, memory), _("Send the photo as a file, by multipart/form-data."))
    check_length(request, most, _("Save the picture smaller or at a lower quality."))


def check_length(request: HttpRequest, most: int, hint: Any = "") -> None:
    """Refuse a body of more than ``most`` bytes, or of unknown length."""
    declared = request.META.get("CONTENT_LENGTH")
    if not declared and request.META.get("HTTP_TRANSFER_ENCODING"):
        message = _("Send the request with a Content-Length: a chunked body is not read.")  # by Django, that is
        raise Refused(message, "no_length", status.HTTP_411_LENGTH_REQUIRED)
    try:
        length = int(declared or 0)
    except ValueError:
        return  # Django reads nothing
    if length > most:
        raise too_large(most, hint)
