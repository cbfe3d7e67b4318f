from __future__ import annotations

from django.contrib import admin
from django.db.models.fields.files import ImageFieldFile
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .models import Brand, Category, Product, ProductImage


def _thumbnail(image: ImageFieldFile, side: int = 48) -> SafeString | str:
    if not image:
        return "-"
    return format_html(
        '<img src="{}" alt="" width="{}" height="{}" style="object-fit:cover;border-radius:4px">', image.url, side, side
    )


@admin.register(Category, Brand)
class NamedAdmin(admin.ModelAdmin):
    list_display = ["name", "slug"]
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}


class ProductImageInline(admin.TabularInline):
    model = ProductImage
    extra = 1
    fields = ["thumbnail", "image", "position"]
    readonly_fields = ["thumbnail"]

    @admin.display(description="")
    def thumbnail(self, picture: ProductImage) -> SafeString | str:
        return _thumbnail(picture.image)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["thumbnail", "name", "sku", "category", "brand", "price", "stock", "is_published"]
    list_display_links = ["thumbnail", "name"]
    list_editable = ["is_published"]
    list_filter = ["is_published", "category", "brand"]
    list_select_related = ["category", "brand"]
    list_per_page = 50
    search_fields = ["name", "sku"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["picture", "created"]
    autocomplete_fields = ["category", "brand"]
    inlines = [ProductImageInline]

    @admin.display(description="")
    def thumbnail(self, product: Product) -> SafeString | str:
        return _thumbnail(product.image)

    @admin.display(description="Picture")
    def picture(self, product: Product) -> SafeString | str:
        return _thumbnail(product.image, 240)
