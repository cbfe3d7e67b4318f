from __future__ import annotations

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.db.models.fields.files import ImageFieldFile
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_visual_search.admin import StaffPhotoForm, VisualSearchAdminMixin
from django_visual_search.storefront.cards import thumbnail_of

from .models import Brand, Category, Coupon, Order, OrderLine, Product, ProductImage


def _thumbnail(image: ImageFieldFile, side: int = 48) -> SafeString | str:
    if not (url := thumbnail_of(image, 2 * side)):
        return "-"
    return format_html(
        '<img class="visual-search-thumbnail" src="{}" alt="" width="{}" height="{}" loading="lazy">', url, side, side
    )


@admin.register(Category, Brand)
class NamedAdmin(admin.ModelAdmin):
    list_display = ["name", "slug"]
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}


class ProductImageInline(admin.StackedInline):
    model = ProductImage
    extra = 1
    fields = ["thumbnail", "image", "position"]
    readonly_fields = ["thumbnail"]

    @admin.display(description=_("Preview"))
    def thumbnail(self, picture: ProductImage) -> SafeString | str:
        return _thumbnail(picture.image)


class CustomerPhotoForm(StaffPhotoForm):
    """Search by a customer's photo, with that customer's orders beside the products."""

    customer = forms.EmailField(label=_("Customer's e-mail"), required=False)


@admin.register(Product)
class ProductAdmin(VisualSearchAdminMixin, admin.ModelAdmin):
    visual_search_fields = ["sku", "stock", "price", "brand"]
    visual_search_form = CustomerPhotoForm

    list_display = ["thumbnail", "name", "sku", "visual_search_status", "price", "stock", "is_published"]
    list_display_links = ["name"]
    list_filter = ["is_published", "category", "brand"]
    list_per_page = 50
    search_fields = ["name", "sku"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["picture", "created"]
    autocomplete_fields = ["category", "brand"]
    inlines = [ProductImageInline]

    @admin.display(description=_("Picture"))
    def thumbnail(self, product: Product) -> SafeString | str:
        return _thumbnail(product.image)

    @admin.display(description=_("Picture"))
    def picture(self, product: Product) -> SafeString | str:
        return _thumbnail(product.image, 240)

    def get_visual_search_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        """Prefetch what ``visual_search_links`` reads: three queries for all hits."""
        email = (request.POST.get("customer") or request.GET.get("customer") or "").strip()
        bought = OrderLine.objects.filter(order__email__iexact=email) if email else OrderLine.objects.none()
        running = Coupon.objects.running()
        return (
            super()
            .get_visual_search_queryset(request)
            .select_related("category")
            .prefetch_related(
                Prefetch("order_lines", bought.select_related("order"), to_attr="bought"),
                Prefetch("coupons", running, to_attr="own_coupons"),
                Prefetch("category__coupons", running.filter(product=None), to_attr="running_coupons"),
            )
        )

    def visual_search_links(self, request: HttpRequest, product: Product) -> list[tuple[str, str]]:
        """Return links to the customer's orders of this product and to the coupons that are valid for it now."""
        orders = [
            (_order_text(line), reverse("admin:shop_order_change", args=[line.order_id]))
            for line in getattr(product, "bought", [])
        ]
        coupons = [*getattr(product, "own_coupons", []), *getattr(product.category, "running_coupons", [])]
        return orders + [(str(coupon), reverse("admin:shop_coupon_change", args=[coupon.pk])) for coupon in coupons]


def _order_text(line: OrderLine) -> str:
    facts = [f"{line.order} · {date_format(localtime(line.order.created))} · {line.quantity} x"]
    return " · ".join([*facts, gettext("returned")] if line.returned else facts)


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0
    autocomplete_fields = ["product"]


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["__str__", "email", "customer", "created"]
    list_filter = ["created", "lines__returned"]
    search_fields = ["=id", "email", "customer__username", "customer__email"]
    raw_id_fields = ["customer"]
    inlines = [OrderLineInline]


@admin.register(Coupon)
class CouponAdmin(admin.ModelAdmin):
    list_display = ["code", "percent", "category", "product", "valid_from", "valid_until"]
    list_select_related = ["category", "product"]
    search_fields = ["code"]
    autocomplete_fields = ["category", "product"]
