"""The photo search page, for shops without one of their own."""

from __future__ import annotations

import math
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods
from rest_framework.request import Request

from .api.bodies import Refused, check_photo_length
from .api.throttles import PhotoThrottle
from .fields import EmbeddingField
from .images import ImageRefused, read_picture
from .spaces.extractors import extractor_of
from .storefront import search_by_photo
from .storefront.cards import cards
from .storefront.forms import PhotoSearchForm, photo_search_field, photo_search_url, preview
from .storefront.gate import photo_slot
from .storefront.refusals import PHOTO_ERRORS, refusal_of
from .storefront.uploads import drain, keep_in_memory

PAGE_HITS = 24


@csrf_exempt  # checked once the length is known: the check reads the body, however long it is
@require_http_methods(["GET", "HEAD", "POST"])
def photo_search(request: HttpRequest, app_label: str, model_name: str) -> HttpResponse:
    """Show the form and, after a POST of ``image``, the visible products that look like it, best first.

    Status 422, with the reason, refuses a photo, 413 a request too long to be read. With Retry-After, 429 is for a
    visitor who sent too many (the rate "photo" of ``THROTTLE_RATES``, shared with the API), 503 for a process whose
    slots are taken or whose extractor can't run. 404: no field searches by photos for the model.
    """
    try:
        field = photo_search_field(f"{app_label}.{model_name}")
    except LookupError as e:
        raise Http404(str(e)) from e
    try:
        check_photo_length(request)
        keep_in_memory(request)
        response: HttpResponse = _answer(request, field)
    except Refused as refused:
        form = PhotoSearchForm({}, {})
        form.errors.clear()
        form.add_error("image", str(refused.detail["detail"]))  # type: ignore[call-overload, index]
        response = _page(request, field, form, status=refused.status_code)
    if response.status_code >= 400:
        drain(request)
    return response


@csrf_protect
def _answer(request: HttpRequest, field: EmbeddingField) -> HttpResponse:
    sent = (request.POST, request.FILES) if request.method == "POST" else ()
    form = PhotoSearchForm(*sent)
    found: dict[str, Any] = {}
    status, retry_after = 200, None
    if request.method == "POST":
        try:
            if not form.is_valid():
                status = 422
            elif (wait := _seconds_to_wait(request)) is not None:
                form.add_error(None, _("You have sent many photos. Try again in a minute."))
                status, retry_after = 429, wait
            else:
                found = _search(request, form, field)
        except PHOTO_ERRORS as error:
            refusal = refusal_of(error)
            form.add_error("image" if isinstance(error, ImageRefused) else None, refusal.sentence)
            status, retry_after = refusal.page_status, refusal.retry_after
    response = _page(request, field, form, found, status)
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


def _page(
    request: HttpRequest, field: EmbeddingField, form: PhotoSearchForm, found: Any = None, status: int = 200
) -> HttpResponse:
    model = field.product_model
    context = {
        "form": form,
        "action": photo_search_url(model),
        "products": model._meta.verbose_name_plural,
        "results": None,
        **(found or {}),
    }
    return render(request, "visual_search/photo_search.html", context, status=status)


def _search(request: HttpRequest, form: PhotoSearchForm, field: EmbeddingField) -> dict[str, Any]:
    photo = read_picture(form.cleaned_data["image"], extractor_of(field).spec.images.max_bytes)
    with photo_slot(request=request):
        results = search_by_photo(photo, field.label, request, limit=PAGE_HITS)
        shown = preview(photo, field)
    made = cards(results)
    same, similar = ([card for card in made if card.hit.is_same_product is same] for same in (True, False))
    return {"results": results, "cards": made, "same_cards": same, "similar_cards": similar, "preview": shown}


def _seconds_to_wait(request: HttpRequest) -> int | None:
    """Return None where the visitor may search now."""
    api_request = Request(request)
    if user := getattr(request, "user", None):
        api_request.user = user
    throttle = PhotoThrottle()
    if throttle.allow_request(api_request, None):
        return None
    return math.ceil(throttle.wait() or 60)
