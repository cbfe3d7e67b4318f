"""Request bodies: refused by their length before they are read, parsed without surprises, drained when refused."""

from __future__ import annotations

import codecs
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import JSONParser

from ..fields.registry import embedding_fields
from ..spaces.extractors import extractor_of
from .errors import Refused, too_large

ROOM = 64 * 2**10
"""Bytes of an upload for everything but the photo."""
DRAINED = 64 * 2**20
"""Most bytes that are read of a refused body and thrown away."""
CHUNK = 256 * 2**10


class BoundedJSONParser(JSONParser):
    """JSON, nested so deep that Python gives up on it included."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError(_("The JSON is nested too deeply.")) from None


class PlainTextJSONParser(BoundedJSONParser):
    """JSON sent as ``text/plain``: a browser sends that across origins without asking first."""

    media_type = "text/plain"


def check_charset(request: HttpRequest) -> None:
    """JSON and forms are UTF-8. Python has codecs that Django takes for charsets and can't decode a form with."""
    if request.encoding and codecs.lookup(request.encoding).name not in ("utf-8", "ascii"):
        raise UnsupportedMediaType(request.content_type, _("The request must be in UTF-8."))


def check_photo_length(request: HttpRequest) -> None:
    """Refuse by ``Content-Length``, before anything is read. Django itself reads no more than that many bytes.

    A file may have the extractor's ``max_bytes``; whatever else there is, is held in memory and goes by Django's
    ``DATA_UPLOAD_MAX_MEMORY_SIZE``.
    """
    most = max((extractor_of(field).spec.images.max_bytes for field in embedding_fields()), default=0) + ROOM
    memory = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if request.content_type != "multipart/form-data" and memory is not None:
        check_length(request, min(most, memory), _("Send the photo as a file, by multipart/form-data."))
    check_length(request, most, _("Save the picture smaller or at a lower quality."))


def check_length(request: HttpRequest, most: int, hint: Any = "") -> None:
    said = request.META.get("CONTENT_LENGTH")
    if not said and request.META.get("HTTP_TRANSFER_ENCODING"):
        message = _("Send the request with a Content-Length: what comes in chunks is not read.")  # by Django, that is
        raise Refused(message, "no_length", status.HTTP_411_LENGTH_REQUIRED)
    try:
        length = int(said or 0)
    except ValueError:
        return  # Django reads nothing then
    if length > most:
        raise too_large(most, hint)


def drain(request: HttpRequest) -> None:
    """Read what is left of a body. Where a server closes a connection with bytes unread, the client sees no answer."""
    left = DRAINED
    try:
        while left > 0 and (part := request.read(min(CHUNK, left))):
            left -= len(part)
    except (OSError, ValueError):  # the client has gone, or the body's file is closed
        pass
