"""Staff's search by photo, or by a product's own picture: a page beside the product list.

``photo_page`` is the view, ``StaffPhotoForm`` its form.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from .. import feedback, search
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..images import ImageRefused, read_picture
from ..images.options import EMPTY_FILE
from ..models import SearchLog
from ..spaces.extractors import extractor_of
from ..storefront.cards import title_of
from ..storefront.forms import preview
from ..storefront.gate import photo_slot
from ..storefront.handles import handle_of
from ..storefront.refusals import PHOTO_ERRORS, refusal_of
from ..storefront.uploads import drain, keep_in_memory
from .base import BREADCRUMB_LIST
from .hits import change_url, may_add_rules, staff_hits

SIDES = ("left", "top", "right", "bottom")
LIMITS = (24, 48, 96)
"""Numbers of hits to choose from."""
NOTHING: dict[str, Any] = {"results": None, "product": None, "preview": ""}


def photo_page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Return the form, and the hits for a POSTed ``photo`` or for the picture of ``?product=``.

    403 without the view permission; 404 for an unknown product; 413 or 422 with the reason where the photo is refused;
    503 with Retry-After where too many photo searches are running or the extractor can't run here.
    """
    # Here, as commands and workers load the admin too, and the REST framework takes as long to import as Django.
    from ..api.bodies import Refused, check_photo_length

    if not model_admin.has_view_or_change_permission(request):
        raise PermissionDenied
    request.current_app = model_admin.admin_site.name  # type: ignore[attr-defined]
    field = model_admin.get_visual_search_field()
    if field is None:
        raise Http404(f"{model_admin.model._meta.label} has no embedding field.")
    try:
        check_photo_length(request)
        keep_in_memory(request)
        response: HttpResponse = _photo_response(request, model_admin, field)
    except Refused as refused:
        form = model_admin.visual_search_form({}, {})
        form.errors.clear()
        form.add_error("photo", str(refused.detail["detail"]))  # type: ignore[call-overload, index]
        response = _render_page(request, model_admin, form, NOTHING, {}, refused.status_code)
    if response.status_code >= 400:
        drain(request)
    return response


@csrf_protect  # not earlier: it reads the body
def _photo_response(request: HttpRequest, model_admin: Any, field: EmbeddingField) -> HttpResponse:
    found: dict[str, Any] = {**NOTHING}
    status, retry_after = 200, None
    if request.method == "POST":
        form = model_admin.visual_search_form(request.POST, request.FILES)
        status = 422
        try:
            if form.is_valid():
                found |= _by_photo(model_admin, request, form, field)
                status = 200
        except PHOTO_ERRORS as error:
            refusal = refusal_of(error)
            if isinstance(error, ExtractorUnavailable):
                form.add_error(None, gettext("Photo search can't run here: %(reason)s") % {"reason": error})
            else:
                form.add_error("photo" if isinstance(error, ImageRefused) else None, refusal.sentence)
            status, retry_after = refusal.page_status, refusal.retry_after
        sent: Any = form.cleaned_data if hasattr(form, "cleaned_data") else {}
    else:
        form = model_admin.visual_search_form(initial=request.GET.dict())
        sent = request.GET
        if key := request.GET.get("product"):
            found |= _found_by_product(model_admin, request, key, field)
    response = _render_page(request, model_admin, form, found, sent, status)
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


def _render_page(
    request: HttpRequest, model_admin: Any, form: Any, found: dict[str, Any], sent: Any, status: int
) -> HttpResponse:
    context = _context(model_admin, request, form, found, sent)
    return TemplateResponse(request, model_admin.visual_search_template, context, status=status)


def _by_photo(model_admin: Any, request: HttpRequest, form: StaffPhotoForm, field: EmbeddingField) -> dict[str, Any]:
    photo = read_picture(form.cleaned_data["photo"], extractor_of(field).spec.images.max_bytes)
    within = model_admin.get_visual_search_queryset(request)
    crop = form.cleaned_data["crop"]
    started = time.perf_counter()
    with photo_slot(request=request):
        # Staff look for the thing in the photo, which rules and feedback for shoppers could hide.
        results = search.search_by_image(
            photo, field.label, limit=form.cleaned_data["limit"], within=within, crop=crop, ranking=False
        )
        milliseconds = _since(started)
        shown = preview(photo, field)
    feedback.log_search(results, milliseconds, request, SearchLog.Surface.ADMIN)
    handle = handle_of(results, request) if may_add_rules(model_admin.admin_site, request) else ""
    return {"results": results, "milliseconds": milliseconds, "preview": shown, "cropped": crop, "handle": handle}


def _found_by_product(model_admin: Any, request: HttpRequest, key: str, field: EmbeddingField) -> dict[str, Any]:
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
    feedback.log_search(results, milliseconds, request, SearchLog.Surface.ADMIN)
    return {"results": results, "milliseconds": milliseconds, "product": product}


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _context(
    model_admin: Any, request: HttpRequest, form: StaffPhotoForm, found: dict[str, Any], sent: Any
) -> dict[str, Any]:
    opts, product, results = model_admin.opts, found["product"], found["results"]
    # The links that search by a hit's picture keep what staff typed into the shop's own fields.
    kept = {name: sent.get(name) for name in form.own_names if sent.get(name) not in (None, "")}
    hits = None
    if results is not None:
        names = model_admin.visual_search_fields
        hits = staff_hits(
            model_admin, request, results, names, links=True, query=product, photo=found.get("handle", "")
        )
    return {
        **model_admin.admin_site.each_context(request),
        **found,
        "title": gettext("Search by photo"),
        "subtitle": None,
        "opts": opts,
        "app_label": opts.app_label,
        "media": form.media + model_admin.visual_search_media,
        "form": form,
        "hits": [(hit, "?" + urlencode({**kept, "product": quote(hit.product.pk)})) for hit in hits or ()],
        "product_title": title_of(product) if product is not None else "",
        "product_url": change_url(model_admin.admin_site, product, model_admin.model) if product else "",
        "products": opts.verbose_name_plural,
        "list_url": reverse(f"{model_admin.admin_site.name}:{opts.app_label}_{opts.model_name}_changelist"),
        "breadcrumb_list": BREADCRUMB_LIST,
    }


# The form


def _percent_field(label: Any, default: int) -> forms.IntegerField:
    attributes = {"placeholder": default, "min": 0, "max": 100}
    return forms.IntegerField(
        label=label, required=False, min_value=0, max_value=100, widget=forms.NumberInput(attributes)
    )


class StaffPhotoForm(forms.Form):
    """A photo, the part of it to search by, and the number of hits. A subclass may add fields of the shop's own."""

    photo = forms.FileField(
        label=_("Photo"),
        widget=forms.FileInput({"accept": "image/*"}),
        error_messages={
            "required": _("Choose a photo first."),
            "empty": _(EMPTY_FILE),
            "invalid": _("Choose a photo first."),
        },
    )
    left = _percent_field(_("Left"), 0)
    top = _percent_field(_("Top"), 0)
    right = _percent_field(_("Right"), 100)
    bottom = _percent_field(_("Bottom"), 100)
    limit = forms.TypedChoiceField(
        label=_("Hits"),
        coerce=int,
        choices=[(n, n) for n in LIMITS],
        initial=LIMITS[0],
        required=False,
        empty_value=LIMITS[0],
    )

    @staticmethod
    def limit_of(parameters: Any) -> int:
        """Return the number of hits in the query string where it is one of LIMITS, else the smallest."""
        return next((limit for limit in LIMITS if str(limit) == parameters.get("limit")), LIMITS[0])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        given = [cleaned.get(side) for side in SIDES]
        cleaned["crop"] = None
        if any(value is not None for value in given) and not any(side in self.errors for side in SIDES):
            left, top, right, bottom = (d if v is None else v for v, d in zip(given, (0, 0, 100, 100), strict=True))
            if left >= right or top >= bottom:
                self.add_error(
                    None, _("In the part to search by, left must be less than right, and top less than bottom.")
                )
            elif (left, top, right, bottom) != (0, 0, 100, 100):
                cleaned["crop"] = (left / 100, top / 100, right / 100, bottom / 100)
        return cleaned

    @property
    def crop_fields(self) -> list[Any]:
        return [self[side] for side in SIDES]

    @property
    def part_is_given(self) -> bool:
        """Whether the fields for the part have a value, valid or not, and so must be visible."""
        return any(field.value() not in (None, "") for field in self.crop_fields)

    @property
    def own_fields(self) -> list[Any]:
        """Fields that the shop added."""
        return [self[name] for name in self.own_names]

    @property
    def own_names(self) -> list[str]:
        return [name for name in self.fields if name not in StaffPhotoForm.base_fields]
