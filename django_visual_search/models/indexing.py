"""Bookkeeping of indexing: attempts, runs over a field, exported models, and products that are hard to find."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..conf import conf


class IndexingAttempt(models.Model):
    """A picture that is being embedded, or could not be; embedding it deletes the row.

    The row is also the claim of the process that works on it: the holder of ``token`` may write the vector.
    """

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        FAILED = "failed", _("failed, will be tried again")
        REFUSED = "refused", _("refused")
        QUARANTINED = "quarantined", _("quarantined")

    label = models.CharField(
        _("embedding field"), max_length=255, help_text=_("The embedding field, as app.Model.field.")
    )
    object_id = models.CharField(_("row"), max_length=255, help_text=_("Primary key of the row that has the picture."))
    key = models.TextField(_("key"), help_text=_("Extractor key and image name of the vector to make."))
    token = models.UUIDField()
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=1)
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.RUNNING)
    code = models.CharField(_("reason"), max_length=64, blank=True, default="")
    message = models.TextField(_("message"), blank=True, default="")
    leased_until = models.DateTimeField()
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("indexing attempt")
        verbose_name_plural = _("indexing attempts")
        constraints = [models.UniqueConstraint(fields=["label", "object_id"], name="visual_search_one_attempt")]
        indexes = [models.Index(fields=["label", "state"], name="visual_search_attempt_state")]

    def __str__(self) -> str:
        return f"{self.label} {self.object_id}: {self.get_state_display()}"


class IndexingRun(models.Model):
    """The latest sweep, reindex or check of a field: its progress, or its result."""

    class Kind(models.TextChoices):
        SWEEP = "sweep", _("sweep")
        COMMAND = "command", _("reindex_embeddings")
        FINDABILITY = "findability", _("findability check")

    label = models.CharField(
        _("embedding field"), max_length=255, help_text=_("The embedding field, as app.Model.field.")
    )
    kind = models.CharField(max_length=16, choices=Kind.choices)
    started_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    total = models.PositiveIntegerField(null=True, blank=True, help_text=_("Pictures to embed, if counted."))
    done = models.PositiveIntegerField(default=0, help_text=_("Pictures embedded."))
    failed = models.PositiveIntegerField(default=0, help_text=_("Pictures that gave no vector."))

    class Meta:
        default_permissions = ()  # staff see it on the dashboard
        verbose_name = _("indexing run")
        verbose_name_plural = _("indexing runs")
        constraints = [models.UniqueConstraint(fields=["label", "kind"], name="visual_search_one_run")]

    def __str__(self) -> str:
        return f"{self.label}: {self.get_kind_display()}"

    @property
    def is_running(self) -> bool:
        """Return whether it is running, by its last report: a run reports at least once in two leases."""
        silent = timezone.now() - self.updated_at
        return self.finished_at is None and silent < timedelta(seconds=2 * conf.LEASE_SECONDS)


class EmbeddingBatch(models.Model):
    """Pictures that staff had embedded again, for the page that shows their states."""

    created_at = models.DateTimeField(db_index=True)
    pictures = models.JSONField(help_text=_("Primary keys of the pictures' rows, by embedding field."))
    beyond = models.PositiveIntegerField(default=0, help_text=_("Pictures that were too many to be listed."))

    class Meta:
        default_permissions = ()  # staff see it on its page
        verbose_name = _("pictures embedded again")
        verbose_name_plural = _("pictures embedded again")

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M}"


class Dashboard(IndexingRun):
    """A page of the admin; a model gives it a place in the admin's lists, and a permission."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")

    def __str__(self) -> str:
        return str(_("dashboard"))


class Artifact(models.Model):
    """A file that every process needs, such as an exported backbone; checked against its sha256 when read."""

    name = models.CharField(max_length=200, unique=True)
    sha256 = models.CharField(max_length=64)
    data = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("artifact")
        verbose_name_plural = _("artifacts")

    def __str__(self) -> str:
        return self.name


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
        verbose_name = _("finding about a product")
        verbose_name_plural = _("findings about products")
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
