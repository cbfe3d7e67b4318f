"""The shop's pages. Visual search is in two of them: a product's page, by a template tag, and the photo search."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from django_visual_search.views import PhotoSearchView

from .forms import FilterForm
from .models import Product
from .ordering import SoldOut, buy_one
from .samples import sample_photos
from .selectors import visible_products

PAGE = 24


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


class PhotoSearch(PhotoSearchView):
    label = "shop.Product"
    template_name = "shop/photo_search.html"

    def get_within(self) -> QuerySet[Product]:
        return _with_brands()


class SamplePhoto(PhotoSearch):
    """The hits of one of the demo's own photos, as if a visitor had sent it."""

    http_method_names = ["get", "head"]

    def get_action(self) -> str:
        return reverse("shop:photo_search")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        file = next((file for file in sample_photos() if file.stem == kwargs["name"]), None)
        if file is None:
            raise Http404(f"There is no sample {kwargs['name']}.")
        return self.answer_photo(file.read_bytes())


def _with_brands() -> QuerySet[Product]:
    return Product.objects.select_related("brand")
