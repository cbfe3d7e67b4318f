"""Shoppers' reactions to the hits they were shown, and a log of searches."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils.formats import date_format
from django.utils.timezone import template_localtime
from django.utils.translation import gettext_lazy as _
from pgvector.django import HalfVectorField


class QueryKind(models.TextChoices):
    PRODUCT = "product", _("similar to a product")
    PHOTO = "photo", _("photo")
    TEXT = "text", _("picture and text")
    WORDS = "words", _("text")


class Feedback(models.Model):
    """One event. Rows change only when they are counted; retention and erasure delete them."""

    class Kind(models.TextChoices):
        IMPRESSION = "impression", _("shown")
        CLICK = "click", _("clicked")
        FAVOURITE = "favourite", _("made a favourite")
        CART = "cart", _("put into the cart")
        PURCHASE = "purchase", _("bought")
        SKIP = "skip", _("dismissed")
        RETURN = "return", _("returned")

    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    created_at = models.DateTimeField(_("created at"))
    content_type = models.ForeignKey(ContentType, models.CASCADE, verbose_name=_("model"), related_name="+")
    object_id = models.CharField(_("product"), max_length=255, help_text=_("Primary key of the event's product."))
    product = GenericForeignKey("content_type", "object_id")
    label = models.CharField(
        _("embedding field"), max_length=255, blank=True, help_text=_("The embedding field that was searched.")
    )
    extractor_key = models.CharField(_("extractor key"), max_length=64, blank=True)
    query_kind = models.CharField(_("query kind"), max_length=16, choices=QueryKind.choices, blank=True)
    query_id = models.CharField(
        _("query product"), max_length=255, blank=True, help_text=_("Primary key of the query product.")
    )
    search = models.UUIDField(_("search"), null=True, blank=True, help_text=_("The search that showed the product."))
    rank = models.PositiveIntegerField(_("rank"), null=True, blank=True)
    similarity = models.FloatField(_("similarity"), null=True, blank=True)
    rule = models.BigIntegerField(
        _("ranking rule"),
        null=True,
        blank=True,
        help_text=_("Primary key of the ranking rule that gave the product its rank."),
    )
    session = models.CharField(
        _("session"), max_length=64, blank=True, db_index=True, help_text=_("Pseudonym of the visitor; it changes.")
    )
    network = models.CharField(
        _("network"),
        max_length=64,
        blank=True,
        db_index=True,
        help_text=_("Pseudonym of the visitor's network; it changes."),
    )
    digest = models.CharField(_("digest"), max_length=64, unique=True, help_text=_("Equal for events that count once."))
    counted = models.BooleanField(
        _("counted"), default=False, help_text=_("Whether the event was added to the evidence.")
    )
    gain = models.FloatField(_("gain"), default=0, help_text=_("Added to the evidence's gain when counted."))
    exposure = models.FloatField(
        _("exposure"), default=0, help_text=_("Added to the evidence's exposure when counted.")
    )

    class Meta:
        verbose_name = _("feedback")
        verbose_name_plural = _("feedback")
        indexes = [
            models.Index(fields=["content_type", "object_id"], name="visual_search_feedback_hit"),
            # The dashboard counts by day and kind, from this index alone.
            models.Index(fields=["created_at", "kind"], name="visual_search_feedback_days"),
            models.Index(fields=["id"], condition=models.Q(counted=False), name="visual_search_feedback_new"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.object_id}"


class SearchLog(models.Model):
    """One search by a person. No photo, no IP address; the vector only if ``LOG_VECTORS`` is on."""

    class Surface(models.TextChoices):
        SIMILAR = "similar", _("similar items")
        PAGE = "page", _("search page")
        API = "api", _("API")
        ADMIN = "admin", _("admin")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(_("created at"), db_index=True)
    label = models.CharField(_("embedding field"), max_length=255)
    kind = models.CharField(_("kind"), max_length=16, choices=QueryKind.choices)
    surface = models.CharField(
        _("place"),
        max_length=16,
        choices=Surface.choices,
        blank=True,
        default="",
        db_default="",
        help_text=_("Where the person searched."),
    )
    query_id = models.CharField(_("query product"), max_length=255, blank=True)
    extractor_key = models.CharField(_("extractor key"), max_length=64, blank=True)
    results = models.PositiveIntegerField(_("hits"))
    best_similarity = models.FloatField(_("best similarity"), null=True, blank=True)
    exact = models.BooleanField(_("exact"))
    milliseconds = models.FloatField(_("milliseconds"))
    session = models.CharField(_("session"), max_length=64, blank=True, db_index=True)
    vector = HalfVectorField(_("vector"), null=True, blank=True)

    class Meta:
        verbose_name = _("search")
        verbose_name_plural = _("search log")

    def __str__(self) -> str:
        moment = date_format(template_localtime(self.created_at), "SHORT_DATETIME_FORMAT")
        return f"{self.get_kind_display()}, {moment}"
