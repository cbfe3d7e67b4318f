"""Reports of shoppers' browsers about the hits of a search.

``POST feedback/`` takes the reports of a script, ``POST reactions/`` a button's on pages without scripts.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.template import loader
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.parsers import FormParser
from rest_framework.permissions import AllowAny
from rest_framework.renderers import TemplateHTMLRenderer
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

    Reports need no login: the signed token limits them, so they need no cookie and no CSRF token. But a browser must
    report from a page of the shop, or any site could make its visitors vote in the shop's rankings.
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


REACTIONS = ("favourite", "skip")
"""Names of a card's buttons, which are the kinds of their events."""


class ReactionRenderer(TemplateHTMLRenderer):
    """A page that confirms the reaction, or says why it failed, and leads back."""

    template_name = "visual_search/reaction.html"

    def get_exception_template(self, response: Response) -> Any:
        return loader.get_template(self.template_name)

    def get_template_context(self, data: Any, renderer_context: Any) -> dict[str, Any]:
        return {**data, "back": page_before(renderer_context["request"]._request)}


class ReactionView(FeedbackView):
    """Takes the form around a list of cards: its token, and the button that was pressed, with the product's key.

    Like the reports, it needs no CSRF token, so that pages with cards stay cacheable.
    """

    parser_classes: Any = (FormParser,)
    renderer_classes = (ReactionRenderer,)
    schema = None

    def post(self, request: Request) -> Response:
        kind = next((kind for kind in REACTIONS if kind in request.data), "")
        try:
            feedback.report(request._request, request.data.get("token"), [(kind, request.data.get(kind, ""))])
        except tuple(ERROR_CODES) as e:
            raise Refused(str(e), ERROR_CODES[type(e)]) from e
        return Response({"reaction": kind})


def page_before(request: HttpRequest) -> str:
    """Return the URL of the shop's page that sent the request; its first page where that is unknown."""
    page = request.META.get("HTTP_REFERER", "")
    known = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if known else "/"
