"""The shop's tables. Visual search adds two fields and two indexes; the rest is any shop's."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_visual_search.fields import EmbeddingField
from django_visual_search.indexes import EmbeddingIndex


class Category(models.Model):
    name = models.CharField(_("name"), max_length=80, unique=True)
    slug = models.SlugField(_("slug"), max_length=80, unique=True)

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Brand(models.Model):
    name = models.CharField(_("name"), max_length=80, unique=True)
    slug = models.SlugField(_("slug"), max_length=80, unique=True)

    class Meta:
        verbose_name = _("brand")
        verbose_name_plural = _("brands")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    name = models.CharField(_("name"), max_length=160)
    slug = models.SlugField(_("slug"), max_length=180, unique=True)
    sku = models.CharField(_("SKU"), max_length=40, unique=True)
    category = models.ForeignKey(Category, models.PROTECT, verbose_name=_("category"), related_name="products")
    brand = models.ForeignKey(Brand, models.PROTECT, verbose_name=_("brand"), related_name="products")
    price = models.DecimalField(_("price"), max_digits=10, decimal_places=2, validators=[MinValueValidator(0)])
    stock = models.PositiveIntegerField(_("stock"), default=0)
    colour = models.CharField(_("colour"), max_length=40, blank=True)
    description = models.TextField(_("description"), blank=True)
    image = models.ImageField(_("image"), upload_to="products", max_length=200, blank=True)
    is_published = models.BooleanField(_("published"), default=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)

    embedding = EmbeddingField(source="image", dimensions=256)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["-created", "-pk"]
        indexes = [
            models.Index(fields=["category", "price"], name="product_category_price"),
            EmbeddingIndex(fields=["embedding"], name="product_embedding_hnsw"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.slug])


class ProductImage(models.Model):
    """An additional picture of a product."""

    product = models.ForeignKey(Product, models.CASCADE, verbose_name=_("product"), related_name="images")
    image = models.ImageField(_("image"), upload_to="products/more", max_length=200)
    position = models.PositiveSmallIntegerField(_("position"), default=0)

    class Meta:
        verbose_name = _("product picture")
        verbose_name_plural = _("product pictures")
        ordering = ["position", "pk"]
        indexes = [models.Index(fields=["product", "position"], name="productimage_position")]

    def __str__(self) -> str:
        return gettext("%(name)s, picture %(number)s") % {"name": self.product, "number": self.position}


class ProductImageEmbedding(models.Model):
    """The embedding of an additional picture: a companion model, as for a third-party table that can't be altered."""

    image = models.OneToOneField(ProductImage, models.CASCADE, primary_key=True, related_name="embedding")
    embedding = EmbeddingField(source="image__image", product="image__product", dimensions=256)

    class Meta:
        indexes = [EmbeddingIndex(fields=["embedding"], name="productimage_embedding_hnsw")]

    def __str__(self) -> str:
        return f"Embedding of {self.image}"


class Order(models.Model):
    """A purchase, with or without an account."""

    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("customer"),
        related_name="orders",
    )
    email = models.EmailField(_("e-mail"), blank=True, db_index=True)
    created = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ["-created", "-pk"]

    def __str__(self) -> str:
        return gettext("Order %(number)s") % {"number": self.pk}


class OrderLine(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, verbose_name=_("order"), related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT, verbose_name=_("product"), related_name="order_lines")
    quantity = models.PositiveIntegerField(_("quantity"), default=1, validators=[MinValueValidator(1)])
    price = models.DecimalField(
        _("price"), max_digits=10, decimal_places=2, help_text=_("The price of one piece at the time of the order.")
    )
    returned = models.BooleanField(_("returned"), default=False)

    class Meta:
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")
        ordering = ["order", "pk"]

    def __str__(self) -> str:
        return f"{self.product} x {self.quantity}"


class CouponQuerySet(models.QuerySet):
    def running(self) -> CouponQuerySet:
        """Return the coupons that are valid now."""
        now = timezone.now()
        return self.filter(models.Q(valid_until=None) | models.Q(valid_until__gt=now), valid_from__lte=now)


class Coupon(models.Model):
    """A discount on one product, on a category, or on everything."""

    code = models.CharField(_("code"), max_length=40, unique=True)
    percent = models.PositiveSmallIntegerField(_("percent"), validators=[MinValueValidator(1), MaxValueValidator(100)])
    category = models.ForeignKey(
        Category, models.CASCADE, null=True, blank=True, verbose_name=_("category"), related_name="coupons"
    )
    product = models.ForeignKey(
        Product, models.CASCADE, null=True, blank=True, verbose_name=_("product"), related_name="coupons"
    )
    valid_from = models.DateTimeField(_("valid from"), default=timezone.now)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)

    objects = CouponQuerySet.as_manager()

    class Meta:
        verbose_name = _("coupon")
        verbose_name_plural = _("coupons")
        ordering = ["code"]

    def __str__(self) -> str:
        return f"{self.code} (-{self.percent} %)"
