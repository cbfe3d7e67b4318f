"""The shop's pages. Visual search is in two of them: a product's page, by a template tag, and the photo search."""

from __future__ import annotations

import base64
import io
from typing import Any, BinaryIO

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from django_visual_search import images, storefront
from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.gate import Busy, photo_slot

from .forms import FilterForm, PhotoSearchForm
from .models import Product
from .ordering import SoldOut, buy_one
from .selectors import visible_products

PAGE = 24
PREVIEW = images.ImageOptions(trim=False, fit="center-crop")


@require_safe
def product_list(request: HttpRequest) -> HttpResponse:
    form = FilterForm(request.GET, label_suffix="")
    products = form.narrow(visible_products(request)).select_related("category", "brand")
    page = Paginator(products, PAGE).get_page(request.GET.get("page"))
    return render(request, "shop/product_list.html", {"form": form, "page": page})


@require_safe
def product_detail(request: HttpRequest, slug: str) -> HttpResponse:
    shown = visible_products(request).select_related("category", "brand")
    product = get_object_or_404(shown.prefetch_related("images"), slug=slug)
    # Similar items leave out what is not visible; "within" saves a query for each card's brand.
    return render(request, "shop/product_detail.html", {"product": product, "within": _with_brands()})


@require_POST
def buy(request: HttpRequest, slug: str) -> HttpResponse:
    product = get_object_or_404(visible_products(request), slug=slug)
    try:
        order = buy_one(product, request)
    except SoldOut:
        messages.error(request, _("%(product)s is sold out.") % {"product": product.name})
    else:
        messages.success(
            request,
            _("Thank you. %(product)s is yours: order %(number)s.") % {"product": product.name, "number": order.pk},
        )
    return redirect(product)


@require_http_methods(["GET", "HEAD", "POST"])
def photo_search(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _photo_page(request, PhotoSearchForm(label_suffix=""))
    form = PhotoSearchForm(request.POST, request.FILES, label_suffix="")
    if not form.is_valid():
        return _photo_page(request, form, status=422)
    photo, within = form.cleaned_data["photo"], _with_brands()
    if category := form.cleaned_data["category"]:
        within = within.filter(category=category)
    try:
        with photo_slot():
            results = storefront.search_by_photo(photo, "shop.Product", request, limit=PAGE, within=within)
            preview = _preview(photo)
    except (images.ImageRefused, Busy, ExtractorUnavailable) as error:
        refusal = storefront.refusal_of(error)
        form.add_error("photo" if isinstance(error, images.ImageRefused) else None, refusal.sentence)
        response = _photo_page(request, form, status=refusal.page_status)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return response
    return _photo_page(request, form, results=results, preview=preview)


def _photo_page(request: HttpRequest, form: PhotoSearchForm, status: int = 200, **found: Any) -> HttpResponse:
    return render(request, "shop/photo_search.html", {"form": form, **found}, status=status)


def _preview(photo: BinaryIO) -> str:
    """Return the photo's middle as a data URL of a JPEG, whatever its format: few browsers show HEIC."""
    photo.seek(0)
    out = io.BytesIO()
    images.load(photo, options=PREVIEW, size=360).save(out, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _with_brands() -> QuerySet[Product]:
    return Product.objects.select_related("brand")
