"""Staff's search by photo, or by a product's own picture: a page beside the product list."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from .. import feedback, search
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..images import ImageRefused
from ..spaces.extractors import extractor_of
from ..storefront.gate import Busy, photo_slot
from ..storefront.presentation import title_of
from ..storefront.previews import preview
from .hits import change_address, staff_hits
from .photo_form import StaffPhotoForm
from .versions import BREADCRUMB_LIST

AGAIN_SECONDS = 60

logger = logging.getLogger("django_visual_search")


def photo_page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """The form, and what was found by a POSTed ``photo`` or by the picture of ``?product=``.

    403 without the view permission; 404 for an unknown product; 422 with the reason where the photo isn't accepted; 503
    with Retry-After where too many are searched by, or the extractor doesn't run here.
    """
    if not model_admin.has_view_or_change_permission(request):
        raise PermissionDenied
    request.current_app = model_admin.admin_site.name  # type: ignore[attr-defined]
    field = model_admin.get_visual_search_field()
    if field is None:
        raise Http404(f"{model_admin.model._meta.label} has no embedding field.")
    found: dict[str, Any] = {"results": None, "product": None, "preview": ""}
    status, retry_after = 200, None
    if request.method == "POST":
        form = model_admin.visual_search_form(request.POST, request.FILES)
        status = 422
        try:
            if form.is_valid():
                found |= _by_photo(model_admin, request, form, field)
                status = 200
        except ImageRefused as refused:
            form.add_error("photo", str(refused))
        except Busy as busy:
            form.add_error(None, _("Too many photos are being searched by at the moment. Try again in a few seconds."))
            status, retry_after = 503, busy.retry_after
        except ExtractorUnavailable as unavailable:
            logger.exception("visual search: no photo search by %s", field.label)
            form.add_error(None, _("Photo search can't run here: %(reason)s") % {"reason": unavailable})
            status, retry_after = 503, AGAIN_SECONDS
        said: Any = form.cleaned_data if hasattr(form, "cleaned_data") else {}
    else:
        form = model_admin.visual_search_form(initial=request.GET.dict())
        said = request.GET
        if key := request.GET.get("product"):
            found |= _by_product(model_admin, request, key, field)
    response = TemplateResponse(
        request, model_admin.visual_search_template, _context(model_admin, request, form, found, said), status=status
    )
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


def _by_photo(model_admin: Any, request: HttpRequest, form: StaffPhotoForm, field: EmbeddingField) -> dict[str, Any]:
    # One byte more than is allowed, so that a file that is too large is seen to be
    photo = form.cleaned_data["photo"].read(extractor_of(field).spec.images.max_bytes + 1)
    within = model_admin.get_visual_search_queryset(request)
    crop = form.cleaned_data["crop"]
    started = time.perf_counter()
    with photo_slot():
        # Staff look for the thing in the photo: rules and feedback, which serve shoppers, could hide it.
        results = search.search_by_image(
            photo, field.label, limit=form.cleaned_data["limit"], within=within, crop=crop, ranking=False
        )
        milliseconds = _since(started)
        shown = preview(photo, field)
    feedback.log_search(results, milliseconds, request)
    return {"results": results, "milliseconds": milliseconds, "preview": shown, "cropped": crop}


def _by_product(model_admin: Any, request: HttpRequest, key: str, field: EmbeddingField) -> dict[str, Any]:
    product = model_admin.get_object(request, unquote(key))
    if product is None:
        raise Http404(f"There is no {model_admin.model._meta.verbose_name} {key!r}.")
    if not model_admin.has_view_or_change_permission(request, product):
        raise PermissionDenied
    within = model_admin.get_visual_search_queryset(request)
    started = time.perf_counter()
    limit = StaffPhotoForm.limit_of(request.GET)
    results = search.similar_to(product, limit=limit, within=within, field=field.label, ranking=False)
    milliseconds = _since(started)
    feedback.log_search(results, milliseconds, request)
    return {"results": results, "milliseconds": milliseconds, "product": product}


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _context(
    model_admin: Any, request: HttpRequest, form: StaffPhotoForm, found: dict[str, Any], said: Any
) -> dict[str, Any]:
    opts, product, results = model_admin.opts, found["product"], found["results"]
    # What staff typed into the shop's own fields goes along when they search on by a hit's picture.
    kept = {name: said.get(name) for name in form.own_names if said.get(name) not in (None, "")}
    hits = None
    if results is not None:
        hits = staff_hits(model_admin, request, results, model_admin.visual_search_fields, links=True)
    return {
        **model_admin.admin_site.each_context(request),
        **found,
        "title": _("Search by photo"),
        "subtitle": None,
        "opts": opts,
        "app_label": opts.app_label,
        "media": form.media + model_admin.visual_search_media,
        "form": form,
        "hits": [(hit, "?" + urlencode({**kept, "product": quote(hit.product.pk)})) for hit in hits or ()],
        "product_title": title_of(product) if product is not None else "",
        "product_address": change_address(model_admin.admin_site, product, model_admin.model) if product else "",
        "products": opts.verbose_name_plural,
        "list_address": reverse(f"{model_admin.admin_site.name}:{opts.app_label}_{opts.model_name}_changelist"),
        "breadcrumb_list": BREADCRUMB_LIST,
    }
