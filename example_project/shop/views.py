"""The shop's pages. Visual search is in two of them: a product's page, by a template tag, and the photo search."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from django_visual_search import storefront
from django_visual_search.gate import Busy, photo_slot
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


@require_safe
def sample(request: HttpRequest, name: str) -> HttpResponse:
    """Search by one of the demo's own photos, and show what a visitor sees who sends it."""
    file = next((file for file in sample_photos() if file.stem == name), None)
    if file is None:
        raise Http404(f"There is no sample {name}.")
    try:
        with file.open("rb") as photo, photo_slot(request=request):
            results = storefront.search_by_photo(photo, PhotoSearch.label, request)
    except Busy as busy:
        messages.error(request, storefront.refusal_of(busy).sentence)
        return redirect("shop:photo_search")
    handle = storefront.handle_of(results, request)
    return redirect(f"{reverse('shop:photo_search')}?{urlencode({'handle': handle})}")


def _with_brands() -> QuerySet[Product]:
    return Product.objects.select_related("brand")
