from __future__ import annotations

import base64
import io
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods, require_safe

from django_visual_search import images, search
from django_visual_search.extractors import ExtractorUnavailable

from .forms import FilterForm, PhotoSearchForm
from .selectors import visible_products

PAGE = 24
PREVIEW = 360
"""Side in pixels of the query photo that is shown back."""


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
    similar = search.similar_to(product, limit=8, within=shown)
    return render(request, "shop/product_detail.html", {"product": product, "similar": similar})


@require_http_methods(["GET", "HEAD", "POST"])
def photo_search(request: HttpRequest) -> HttpResponse:
    sent = (request.POST, request.FILES) if request.method == "POST" else ()
    form = PhotoSearchForm(*sent, label_suffix="")
    context: dict[str, Any] = {"form": form}
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            within = visible_products(request).select_related("category", "brand")
            if category := form.cleaned_data["category"]:
                within = within.filter(category=category)
            # One byte more than is allowed, so that a file that is too large is seen to be
            photo = form.cleaned_data["photo"].read(images.ImageOptions().max_bytes + 1)
            try:
                context["results"] = search.search_by_image(photo, "shop.Product.embedding", limit=PAGE, within=within)
                context["preview"] = _preview(photo)
                status = 200
            except images.ImageRefused as refused:
                form.add_error("photo", str(refused))
            except ExtractorUnavailable as unavailable:
                form.add_error(None, f"Photo search is not available at the moment. {unavailable}")
                status = 503
    return render(request, "shop/photo_search.html", context, status=status)


def _preview(photo: bytes) -> str:
    """A data URL: the photo is shown back without being kept, in a format that every browser has."""
    picture = images.load(photo, options=images.ImageOptions(trim=False), size=PREVIEW)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
