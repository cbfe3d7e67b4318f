"""Products that a check found hard to find, and the admin's report of all products that searches miss."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class FindabilityFinding(models.Model):
    """A fault that the latest check of a picture found, and that neither its row nor its attempts show.

    A check replaces the earlier findings about the pictures it looks at.
    """

    class Reason(models.TextChoices):
        DROWNED = "drowned", _("drowned by look-alikes")
        DUPLICATE = "duplicate", _("duplicate picture")

    label = models.CharField(
        _("embedding field"), max_length=255, help_text=_("The embedding field, as app.Model.field.")
    )
    object_id = models.CharField(max_length=255, help_text=_("Primary key of the row that has the picture."))
    product_id = models.CharField(max_length=255, help_text=_("Primary key of the product."))
    image = models.TextField(help_text=_("The picture's name in its storage."))
    reason = models.CharField(max_length=16, choices=Reason.choices)
    other_id = models.CharField(
        max_length=255, blank=True, help_text=_("Primary key of the product found instead, or with the same picture.")
    )
    similarity = models.FloatField(null=True, help_text=_("Cosine similarity to that product's picture."))
    failed = models.PositiveSmallIntegerField(null=True, help_text=_("Altered photos that did not find the product."))
    photos = models.PositiveSmallIntegerField(null=True, help_text=_("Altered photos that were tried."))
    extractor_key = models.CharField(max_length=64)
    checked_at = models.DateTimeField()

    class Meta:
        default_permissions = ()  # staff see it on the report page
        constraints = [
            models.UniqueConstraint(fields=["label", "object_id", "reason"], name="visual_search_one_finding")
        ]
        indexes = [models.Index(fields=["label", "reason"], name="visual_search_finding_reason")]

    def __str__(self) -> str:
        return f"{self.label} {self.product_id}: {self.get_reason_display()}"


class Findability(FindabilityFinding):
    """A page of the admin; a model gives it a place in the admin's lists, and permissions."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        permissions = [("check_findability", _("Can start a findability check"))]
        verbose_name = _("findability report")
        verbose_name_plural = _("findability report")

    def __str__(self) -> str:
        return str(_("findability report"))
