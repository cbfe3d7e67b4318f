"""``EmbeddingField``: a halfvec column that names the picture it is made from, and its sibling key column."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.functional import cached_property
from pgvector.django import HalfVectorField

from .checks import check_embedding_field

METRICS = ("cosine", "l2", "ip")


class KeptByUpdates:
    """A column that ``save()`` of a loaded instance never writes back.

    Vectors are written by workers. An instance loaded before the worker wrote would otherwise put the old value back
    with its next ``save()``; and a column that does not change lets PostgreSQL keep the update heap-only.
    """

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        if add:
            return super().pre_save(model_instance, add)  # type: ignore[misc]
        return models.F(self.attname)  # type: ignore[attr-defined]


class EmbeddingKeyField(KeptByUpdates, models.TextField):
    """Where a vector comes from: ``<extractor key>:<image name>``.

    Contributed by EmbeddingField; a TextField to migrations.
    """

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", list(args), kwargs


class EmbeddingField(KeptByUpdates, HalfVectorField):
    """The embedding of the picture that ``source`` names, with ``dimensions`` half-precision numbers.

    ``source``: path to an ImageField, on this model (``"image"``) or over one one-to-one relation
    (``"image__original"``).
    ``product``: path from this model to the product that is searched for; None means the row itself is the product.
    ``dimensions``: width of the vector, at most 4,000 (pgvector's limit for an HNSW index on halfvec).
    ``metric``: ``"cosine"`` (similarity is the cosine), ``"l2"`` (1 / (1 + distance)) or ``"ip"`` (the inner product).
    ``extractor``: an alias in ``VISUAL_SEARCH["EXTRACTORS"]``.
    """

    description = "Embedding of an image"

    def __init__(
        self,
        *args: Any,
        source: str | None = None,
        product: str | None = None,
        dimensions: int | None = None,
        metric: str = "cosine",
        extractor: str = "default",
        **kwargs: Any,
    ) -> None:
        self.source = source
        self.product = product
        self.metric = metric
        self.extractor = extractor
        kwargs["null"] = True
        kwargs["blank"] = True
        kwargs["editable"] = False
        super().__init__(*args, dimensions=dimensions, **kwargs)

    def deconstruct(self) -> tuple[Any, Any, Any, Any]:
        # Migrations see pgvector's own field, so they keep working without this app and never change with its options.
        name, _, args, kwargs = super().deconstruct()
        return name, f"{HalfVectorField.__module__}.{HalfVectorField.__qualname__}", args, kwargs

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        # A clone made for migrations has no source; its sibling column is there as a field of its own.
        if self.source and self.key_name not in {field.name for field in cls._meta.local_fields}:
            EmbeddingKeyField(null=True, blank=True, editable=False, default=None).contribute_to_class(
                cls, self.key_name
            )

    @property
    def key_name(self) -> str:
        """Name of the sibling column."""
        return f"{self.name}_key"

    @property
    def label(self) -> str:
        """``app.Model.field``: the field's name in settings, commands and messages."""
        return f"{self.model._meta.label}.{self.name}"

    @cached_property
    def link(self) -> models.OneToOneField | None:
        """A companion model's relation to the model that has the picture; None where the picture is on this model."""
        head, _, tail = (self.source or "").partition("__")
        return self.model._meta.get_field(head) if tail else None

    @cached_property
    def target_model(self) -> type[models.Model]:
        """The model whose rows are embedded: this one, or the one a companion links to."""
        return self.link.related_model if self.link else self.model

    @cached_property
    def image_field(self) -> models.ImageField:
        """The ImageField that ``source`` names."""
        return self.target_model._meta.get_field((self.source or "").rpartition("__")[2])

    @cached_property
    def product_model(self) -> type[models.Model]:
        """The model that a search returns."""
        model = self.model
        for name in (self.product or "").split("__") if self.product else []:
            model = model._meta.get_field(name).related_model
        return model

    def check(self, **kwargs: Any) -> list[Any]:
        return [*super().check(**kwargs), *check_embedding_field(self)]
