"""Products that a check found hard to find, and the page of the admin that tells of all that can't be found."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class FindabilityFinding(models.Model):
    """What the latest check of a picture found wrong, that its row and its attempts don't say.

    Checks replace what earlier ones found for the pictures that they look at.
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
        max_length=255, blank=True, help_text=_("Primary key of the product that is found instead, or is the same.")
    )
    similarity = models.FloatField(null=True, help_text=_("Cosine to that product's picture."))
    failed = models.PositiveSmallIntegerField(null=True, help_text=_("Altered photos that did not find the product."))
    photos = models.PositiveSmallIntegerField(null=True, help_text=_("Altered photos that were tried."))
    extractor_key = models.CharField(max_length=64)
    checked_at = models.DateTimeField()

    class Meta:
        default_permissions = ()  # what staff may see of it is on the page
        constraints = [
            models.UniqueConstraint(fields=["label", "object_id", "reason"], name="visual_search_one_finding")
        ]
        indexes = [models.Index(fields=["label", "reason"], name="visual_search_finding_reason")]

    def __str__(self) -> str:
        return f"{self.label} {self.product_id}: {self.get_reason_display()}"


class Findability(FindabilityFinding):
    """A page of the admin, as a model so that it has a place in the admin's lists and permissions of its own."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        permissions = [("check_findability", _("Can start a check of what can be found"))]
        verbose_name = _("findability report")
        verbose_name_plural = _("findability report")

    def __str__(self) -> str:
        return str(_("findability report"))
