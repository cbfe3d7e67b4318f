"""The test shop's admin: products with the mixin in several arrangements."""

from django.contrib import admin
from django.urls import reverse

from django_visual_search.admin import VisualSearchAdminMixin

from . import models


@admin.register(models.Product)
class ProductAdmin(VisualSearchAdminMixin, admin.ModelAdmin):
    list_display = ["name", "visual_search_status", "price"]
    list_editable = ["price"]
    search_fields = ["name"]
    visual_search_fields = ["price", "shout", "category"]

    @admin.display(description="Loud name")
    def shout(self, product):
        return product.name.upper()

    def visual_search_links(self, request, product):
        code = request.POST.get("code") or request.GET.get("code") or "none"
        return [(f"Orders <{code}>", reverse("admin:index")), ("Coupon & more", "")]


@admin.register(models.PublishedProduct)
class PublishedProductAdmin(VisualSearchAdminMixin, admin.ModelAdmin):
    """A part of the products only, with fieldsets of its own that place the panel."""

    fieldsets = [
        ("Looks", {"fields": ["image", "visual_search_neighbours"]}),
        ("Rest", {"fields": [("name", "price")]}),
    ]


@admin.register(models.Article)
class ArticleAdmin(VisualSearchAdminMixin, admin.ModelAdmin):
    fields = ["title"]
    actions = None


@admin.register(models.Category)
class CategoryAdmin(admin.ModelAdmin):
    pass
