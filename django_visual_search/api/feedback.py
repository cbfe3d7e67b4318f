"""``POST feedback/``: what a shopper's browser reports about the hits of a search."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .. import feedback
from ..storefront.uploads import drain
from .bodies import (
    BoundedJSONParser,
    PlainTextJSONParser,
    Refused,
    as_api_exception,
    check_charset,
    check_length,
)
from .inputs import ReportSerializer
from .schema import feedback_described
from .throttles import FeedbackThrottle, is_cross_site

LONGEST_REPORT = 256 * 2**10
"""Bytes: a token of a thousand long keys, and an event for each."""

ERROR_CODES = {
    feedback.BadToken: "bad_token",
    feedback.NotOffered: "not_offered",
    feedback.BadEvent: "bad_event",
}


class FeedbackView(APIView):
    """Takes JSON, also as ``text/plain``, which ``navigator.sendBeacon`` may send to any origin without a preflight.

    Nobody logs in here: the signed token limits the report, so it needs no cookie and no CSRF token. But a browser
    must report from a page of the shop, or any site could make its visitors vote in the shop's rankings.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes = (BoundedJSONParser, PlainTextJSONParser)
    throttle_classes = (FeedbackThrottle,)

    @feedback_described
    def post(self, request: Request) -> Response:
        """Report what a shopper did with hits: impression, click, favourite, cart or skip."""
        sent = ReportSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        events = [(event["kind"], event["product"]) for event in sent.validated_data["events"]]
        try:
            report = feedback.report(request._request, sent.validated_data["token"], events)
        except tuple(ERROR_CODES) as e:
            raise Refused(str(e), ERROR_CODES[type(e)]) from e
        return Response({"counted": report.counted}, status.HTTP_202_ACCEPTED)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_charset(request._request)
        check_length(request._request, LONGEST_REPORT)
        if is_cross_site(request._request):
            message = _("Report from a page of this site, or add the page's origin to CSRF_TRUSTED_ORIGINS.")
            raise Refused(message, "foreign_origin", status.HTTP_403_FORBIDDEN)
        super().initial(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(as_api_exception(exc))

    def finalize_response(
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        if response.status_code >= 400:
            drain(request._request)
        return super().finalize_response(request, response, *args, **kwargs)
