"""Learned from a shop: heads, text heads, each field's serving space, and features kept for other heads."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .indexing import Artifact


class EmbeddingHead(models.Model):
    """A learned head: the projection of a backbone's features to a field's vectors. Its numbers never change."""

    class Method(models.TextChoices):
        HEAD = "head", _("head")
        FINETUNE = "finetune", _("fine-tuned backbone and head")

    class State(models.TextChoices):
        CANDIDATE = "candidate", _("candidate")
        SERVING = "serving", _("serving")
        RETIRED = "retired", _("retired")

    name = models.CharField(_("name"), max_length=100, unique=True)
    label = models.CharField(
        _("embedding field"), max_length=255, help_text=_("The embedding field, as app.Model.field.")
    )
    method = models.CharField(_("method"), max_length=16, choices=Method.choices, default=Method.HEAD)
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.CANDIDATE)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    extractor = models.CharField(
        _("extractor"), max_length=100, help_text=_("Alias of the extractor that it was trained for.")
    )
    features_key = models.CharField(_("features key"), max_length=64, help_text=_("Key of the backbone's features."))
    key = models.CharField(_("key"), max_length=64, unique=True, help_text=_("Key of the space of its vectors."))
    dimensions = models.PositiveIntegerField(_("dimensions"))
    data = models.BinaryField(help_text=_("Matrix and mean in NumPy's npy format."))
    sha256 = models.CharField(max_length=64)
    artifact = models.ForeignKey(
        Artifact, models.PROTECT, null=True, blank=True, help_text=_("The fine-tuned backbone, if any.")
    )
    backbone = models.JSONField(default=dict, blank=True, help_text=_("Input of the fine-tuned backbone."))
    summary = models.JSONField(default=dict, blank=True, help_text=_("Training data and settings."))
    baseline_key = models.CharField(
        _("baseline key"),
        max_length=64,
        blank=True,
        help_text=_("Key of the space that served when it was measured."),
    )
    metrics = models.JSONField(
        default=list,
        blank=True,
        help_text=_("By task, on held-out pictures: the figures of baseline and head."),
    )
    calibration = models.JSONField(
        null=True, blank=True, help_text=_("From similarity to the probability that a hit is right.")
    )

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("learned head")
        verbose_name_plural = _("learned heads")

    def __str__(self) -> str:
        return self.name


class TextHead(models.Model):
    """A learned projection of texts to the vectors of one space of a field. Its numbers never change."""

    label = models.CharField(
        _("embedding field"), max_length=255, help_text=_("The embedding field, as app.Model.field.")
    )
    space_key = models.CharField(max_length=64, help_text=_("Key of the space that it was learned for."))
    created_at = models.DateTimeField(auto_now_add=True)
    data = models.BinaryField(help_text=_("Codes, weights, matrix and mean in NumPy's npy format."))
    sha256 = models.CharField(max_length=64)
    summary = models.JSONField(default=dict, blank=True, help_text=_("Training data and settings."))
    metrics = models.JSONField(default=dict, blank=True, help_text=_("Figures on products that were held out."))

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["label", "space_key"], name="visual_search_text_head")]
        verbose_name = _("text head")
        verbose_name_plural = _("text heads")

    def __str__(self) -> str:
        return f"{self.label}: {self.space_key}"


class ServingSpace(models.Model):
    """The space of a field's vectors, and the one before; a field without a row is served by its extractor.

    Between ``effective_at`` and ``finished_at`` vectors move from one to the other, and searches ask both.
    """

    label = models.CharField(
        _("embedding field"), max_length=255, unique=True, help_text=_("The embedding field, as app.Model.field.")
    )
    extractor = models.CharField(max_length=100)
    head = models.ForeignKey(EmbeddingHead, models.PROTECT, null=True, blank=True, related_name="+")
    previous_extractor = models.CharField(max_length=100)
    previous_head = models.ForeignKey(EmbeddingHead, models.PROTECT, null=True, blank=True, related_name="+")
    changed_at = models.DateTimeField()
    effective_at = models.DateTimeField(
        help_text=_("When vectors start to move; by then every process has read this row.")
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("serving space")
        verbose_name_plural = _("serving spaces")

    def __str__(self) -> str:
        return f"{self.label}: {self.head or self.extractor}"


class PictureFeatures(models.Model):
    """A backbone's features of one picture, kept so that training another head decodes nothing."""

    label = models.CharField(
        _("embedding field"), max_length=255, help_text=_("The embedding field, as app.Model.field.")
    )
    object_id = models.CharField(max_length=255, help_text=_("Primary key of the row that has the picture."))
    features_key = models.CharField(max_length=64)
    image = models.TextField(help_text=_("The picture's name in its storage."))
    features = models.BinaryField(help_text=_("Little-endian half-precision numbers."))
    written_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        verbose_name = _("features of a picture")
        verbose_name_plural = _("features of pictures")
        constraints = [
            models.UniqueConstraint(fields=["label", "features_key", "object_id"], name="visual_search_one_features")
        ]

    def __str__(self) -> str:
        return f"{self.label} {self.object_id}: {self.features_key}"
