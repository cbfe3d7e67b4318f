"""Bookkeeping of the app: attempts at embedding a picture, and exported models."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class IndexingAttempt(models.Model):
    """One picture that is being embedded, or could not be. A picture that was embedded has no row here.

    The row is also the claim of the process that works on it: who holds ``token`` may write the vector.
    """

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        FAILED = "failed", _("failed, will be tried again")
        REFUSED = "refused", _("refused")
        QUARANTINED = "quarantined", _("quarantined")

    label = models.CharField(max_length=255, help_text=_("The embedding field, as app.Model.field."))
    object_id = models.CharField(max_length=255, help_text=_("Primary key of the row that has the picture."))
    key = models.TextField(help_text=_("Extractor key and image name of the vector that was wanted."))
    token = models.UUIDField()
    attempts = models.PositiveSmallIntegerField(default=1)
    state = models.CharField(max_length=16, choices=State.choices, default=State.RUNNING)
    code = models.CharField(max_length=64, blank=True, default="")
    message = models.TextField(blank=True, default="")
    leased_until = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["label", "object_id"], name="visual_search_one_attempt")]
        indexes = [models.Index(fields=["label", "state"], name="visual_search_attempt_state")]

    def __str__(self) -> str:
        return f"{self.label} {self.object_id}: {self.state}"


class Artifact(models.Model):
    """A file that every process needs, such as an exported backbone; checked against its sha256 when read."""

    name = models.CharField(max_length=200, unique=True)
    sha256 = models.CharField(max_length=64)
    data = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name
