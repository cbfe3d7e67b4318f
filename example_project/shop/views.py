from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from django_visual_search import images, storefront
from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.fields.registry import get_field
from django_visual_search.storefront.forms import preview
from django_visual_search.storefront.gate import Busy, photo_slot

from .forms import FilterForm, PhotoSearchForm
from .models import Product
from .ordering import SoldOut, buy_one
from .selectors import visible_products

PAGE = 24
FIELD = "shop.Product.embedding"


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
    # What is not visible stays out of similar items by itself; this saves a query for each card.
    return render(request, "shop/product_detail.html", {"product": product, "within": _with_brands()})


@require_POST
def buy(request: HttpRequest, slug: str) -> HttpResponse:
    product = get_object_or_404(visible_products(request), slug=slug)
    try:
        order = buy_one(product, request)
    except SoldOut:
        messages.error(request, f"{product.name} is sold out.")
    else:
        messages.success(request, f"Thank you. {product.name} is yours: {order}.")
    return redirect(product)


@require_http_methods(["GET", "HEAD", "POST"])
def photo_search(request: HttpRequest) -> HttpResponse:
    sent = (request.POST, request.FILES) if request.method == "POST" else ()
    form = PhotoSearchForm(*sent, label_suffix="")
    context: dict[str, Any] = {"form": form}
    headers = {}
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            within = _with_brands()
            if category := form.cleaned_data["category"]:
                within = within.filter(category=category)
            # One byte more than is allowed, so that a file that is too large is seen to be
            photo = form.cleaned_data["photo"].read(images.ImageOptions().max_bytes + 1)
            try:
                with photo_slot():
                    context["results"] = storefront.search_by_photo(photo, FIELD, request, limit=PAGE, within=within)
                    context["preview"] = preview(photo, get_field(FIELD))
                status = 200
            except images.ImageRefused as refused:
                form.add_error("photo", str(refused))
            except Busy as busy:
                form.add_error(None, str(busy))
                headers["Retry-After"] = str(busy.retry_after)
                status = 503
            except ExtractorUnavailable as unavailable:
                form.add_error(None, f"Photo search is not available at the moment. {unavailable}")
                status = 503
    response = render(request, "shop/photo_search.html", context, status=status)
    for name, value in headers.items():
        response[name] = value
    return response


def _with_brands() -> QuerySet[Product]:
    return Product.objects.select_related("brand")
