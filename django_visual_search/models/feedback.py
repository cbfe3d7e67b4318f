"""What shoppers did with the hits they were shown, and a log of searches."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils.translation import gettext_lazy as _
from pgvector.django import HalfVectorField


class QueryKind(models.TextChoices):
    PRODUCT = "product", _("similar to a product")
    PHOTO = "photo", _("photo")
    TEXT = "text", _("picture and text")
    WORDS = "words", _("text")


class Feedback(models.Model):
    """One event. Rows never change but for being counted; retention and erasure delete them."""

    class Kind(models.TextChoices):
        IMPRESSION = "impression", _("shown")
        CLICK = "click", _("clicked")
        FAVOURITE = "favourite", _("made a favourite")
        CART = "cart", _("put into the cart")
        PURCHASE = "purchase", _("bought")
        SKIP = "skip", _("dismissed")
        RETURN = "return", _("returned")

    kind = models.CharField(max_length=16, choices=Kind.choices)
    created_at = models.DateTimeField()
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    object_id = models.CharField(max_length=255, help_text=_("Primary key of the event's product."))
    product = GenericForeignKey("content_type", "object_id")
    label = models.CharField(
        _("embedding field"), max_length=255, blank=True, help_text=_("The embedding field that was searched.")
    )
    extractor_key = models.CharField(max_length=64, blank=True)
    query_kind = models.CharField(max_length=16, choices=QueryKind.choices, blank=True)
    query_id = models.CharField(max_length=255, blank=True, help_text=_("Primary key of the query product."))
    search = models.UUIDField(null=True, blank=True, help_text=_("The search that showed the product."))
    rank = models.PositiveIntegerField(null=True, blank=True)
    similarity = models.FloatField(null=True, blank=True)
    session = models.CharField(
        max_length=64, blank=True, db_index=True, help_text=_("Pseudonym of the visitor; it changes.")
    )
    network = models.CharField(
        max_length=64, blank=True, db_index=True, help_text=_("Pseudonym of the visitor's network; it changes.")
    )
    digest = models.CharField(max_length=64, unique=True, help_text=_("Equal for events that count once."))
    counted = models.BooleanField(default=False, help_text=_("Whether the event was added to the evidence."))
    gain = models.FloatField(default=0, help_text=_("Added to the evidence's gain when counted."))
    exposure = models.FloatField(default=0, help_text=_("Added to the evidence's exposure when counted."))

    class Meta:
        verbose_name_plural = _("feedback")
        indexes = [
            models.Index(fields=["content_type", "object_id"], name="visual_search_feedback_hit"),
            # The dashboard counts by day and kind, from this index alone.
            models.Index(fields=["created_at", "kind"], name="visual_search_feedback_days"),
            models.Index(fields=["id"], condition=models.Q(counted=False), name="visual_search_feedback_new"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id}"


class SearchLog(models.Model):
    """One search by a person. No photo, no IP address; the vector only if ``LOG_VECTORS`` is on."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(db_index=True)
    label = models.CharField(_("embedding field"), max_length=255)
    kind = models.CharField(max_length=16, choices=QueryKind.choices)
    query_id = models.CharField(max_length=255, blank=True)
    extractor_key = models.CharField(max_length=64, blank=True)
    results = models.PositiveIntegerField()
    best_similarity = models.FloatField(null=True, blank=True)
    exact = models.BooleanField()
    milliseconds = models.FloatField()
    session = models.CharField(max_length=64, blank=True, db_index=True)
    vector = HalfVectorField(null=True, blank=True)

    class Meta:
        verbose_name = _("search")
        verbose_name_plural = _("search log")

    def __str__(self) -> str:
        return f"{self.kind} {self.created_at:%Y-%m-%d %H:%M}"
