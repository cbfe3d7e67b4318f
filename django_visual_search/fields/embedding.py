"""``EmbeddingField``: a halfvec column that names its source picture, with a sibling key column.

Vector and key are written together, as a rule by workers. ``save()`` of a loaded instance leaves both columns as they
are in the database: the instance may be older than the worker's write, and a column that does not change lets
PostgreSQL keep the update heap-only. It writes them where the caller has set them:

- an assigned vector (list, array, ``HalfVector``, or one loaded for another row) is written with the instance's key, by
  any ``save()``;
- None assigned to the vector, and not to the key, clears both, by any ``save()``;
- a ``save()`` whose ``update_fields`` name both columns writes what the instance has, even None twice.

An assigned vector without a key is a ValueError. Indexing replaces
vectors whose key (``fields.keys.embedding_key``) doesn't name the serving extractor and the current picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from django.db import models
from django.db.models.base import ModelState
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.utils.functional import cached_property
from pgvector.django import HalfVectorField

from .checks import check_embedding_field
from .keys import CROP_SIDES, SELF


class StoredVector(list[float]):
    """A vector as the database has it. By its type ``save()`` tells it from one that was assigned."""

    row: Any = None
    """Primary key of the row that it was loaded for."""


class VectorAttribute(DeferredAttribute):
    """The vector on an instance. One that was loaded for another row becomes an assigned one."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        if isinstance(value, StoredVector):
            row = instance.__dict__.get(instance._meta.pk.attname)
            if value.row is None:
                value.row = row
            elif value.row != row:
                value = list(value)
        instance.__dict__[self.field.attname] = value


class EmbeddingKeyField(models.TextField):
    """The origin of a vector: ``<extractor key>:<image name>``.

    Contributed by EmbeddingField; a TextField to migrations.
    """

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", list(args), kwargs

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        names = {field.name: field for field in self.model._meta.fields}
        vector = names.get(self.name.removesuffix(KEY_SUFFIX))
        if not add and isinstance(vector, EmbeddingField) and vector.source:
            if not vector.is_written(model_instance):
                return models.F(self.attname)
            if getattr(model_instance, vector.attname) is None:
                setattr(model_instance, self.attname, None)
        return super().pre_save(model_instance, add)


KEY_SUFFIX = "_key"


class EmbeddingField(HalfVectorField):
    """The embedding of the picture that ``source`` names, with ``dimensions`` half-precision numbers.

    ``source``: path of forward relations to an ImageField: on this model (``"image"``), over foreign keys, so that rows
    may share a picture (``"photo__file"``), or first over a one-to-one relation, which makes this model a companion
    (``"image__original"``, ``"page__photo__file"``).
    ``crop``: the area of the picture to embed, named by four columns beside it: ``"focal_point"`` stands for
    ``focal_point_x`` and ``_y``, its centre, ``_width`` and ``_height``, in pixels; without one of them, all of it. The
    ImageField needs ``width_field`` and ``height_field``.
    ``only``: a condition on the row that has the picture (a companion's link leads there), such as
    ``Q(product__is_public=True)``. Other pictures have no vector, so they are neither found nor shown.
    ``product``: path from this model to the product that searches return; None means the row itself. Of several paths,
    a list or tuple, the first counts that leads somewhere: ``("image__product__parent", "image__product")`` finds the
    parents of variants. The path ``"self"`` is the row itself, as in ``("parent", "self")``.
    ``dimensions``: width of the vector, at most 4,000 (pgvector's limit for an HNSW index on halfvec).
    ``metric``: ``"cosine"`` (similarity is the cosine), ``"l2"`` (1 / (1 + distance)) or ``"ip"`` (the inner product).
    ``extractor``: an alias in ``VISUAL_SEARCH["EXTRACTORS"]``.
    """

    description = "Embedding of an image"
    descriptor_class = VectorAttribute

    copied = False
    """Whether this is a copy for another model, as by django-simple-history: a column without indexing."""

    def __init__(
        self,
        *args: Any,
        source: str | None = None,
        crop: str | None = None,
        only: models.Q | None = None,
        product: str | Sequence[str] | None = None,
        dimensions: int | None = None,
        metric: str = "cosine",
        extractor: str = "default",
        **kwargs: Any,
    ) -> None:
        self.source = source
        self.crop = crop
        self.only = only
        self.product = None if product in (SELF, (SELF,), [SELF]) else product
        self.metric = metric
        self.extractor = extractor
        kwargs["null"] = True
        kwargs["blank"] = True
        kwargs["editable"] = False
        super().__init__(*args, dimensions=dimensions, **kwargs)

    def deconstruct(self) -> tuple[Any, Any, Any, Any]:
        # Migrations see pgvector's own field: they work without this app and don't change with its options.
        name, _, args, kwargs = super().deconstruct()
        return name, f"{HalfVectorField.__module__}.{HalfVectorField.__qualname__}", args, kwargs

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        origin = self.__dict__.get("model")
        if origin is not None and origin is not cls and not origin._meta.abstract:
            self.copied, self.source, self.crop, self.only, self.product = True, None, None, None, None
        for derived in ("link", "target_model", "route", "image_field", "product_model"):
            self.__dict__.pop(derived, None)  # of the model that this is a copy from
        super().contribute_to_class(cls, name, private_only)
        # A clone for migrations has no source, and its sibling column is a field of its own.
        if self.source and self.key_name not in {field.name for field in cls._meta.local_fields}:
            EmbeddingKeyField(null=True, blank=True, editable=False, default=None).contribute_to_class(
                cls, self.key_name
            )

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> StoredVector | None:
        vector = super().from_db_value(value, expression, connection)
        return None if vector is None else StoredVector(vector)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        if add or not self.source or self.is_written(model_instance):
            return super().pre_save(model_instance, add)
        return models.F(self.attname)

    def is_written(self, instance: models.Model) -> bool:
        """Return whether ``save()`` of an existing row writes vector and key.

        Raises ValueError where it would write one without the other.
        """
        named = _update_fields.get(instance._state)
        explicit = named is not None and not named.isdisjoint({self.name, self.key_name})
        vector = instance.__dict__.get(self.attname)
        assigned = vector is not None and not isinstance(vector, StoredVector)
        # The database never has a key without a vector.
        cleared = self.attname in instance.__dict__ and vector is None and bool(instance.__dict__.get(self.key_name))
        if not explicit and not assigned and not cleared:
            return False
        if named is not None and not named >= {self.name, self.key_name}:
            raise ValueError(f"update_fields must name both {self.name!r} and {self.key_name!r}, or neither.")
        if assigned and instance.__dict__.get(self.key_name) is None:
            raise ValueError(f"{self.label} was assigned without {self.key_name}: set both.")
        return True

    @property
    def key_name(self) -> str:
        """Name of the sibling field."""
        return f"{self.name}{KEY_SUFFIX}"

    @property
    def label(self) -> str:
        """``app.Model.field``: the field's name in settings, commands and messages."""
        return f"{self.model._meta.label}.{self.name}"

    @cached_property
    def link(self) -> models.OneToOneField | None:
        """A companion's relation to the model that has the picture; None where this model has it, or leads to it."""
        head, _, tail = (self.source or "").partition("__")
        first = self.model._meta.get_field(head) if tail else None
        return first if isinstance(first, models.OneToOneField) else None

    def companions(self) -> models.QuerySet[Any]:
        """Return, for a subquery of rows of ``target_model``, the companions of the outer row."""
        assert self.link is not None
        outer = models.OuterRef(self.link.target_field.attname)
        return models.QuerySet(self.model).filter(**{self.link.attname: outer})

    @cached_property
    def target_model(self) -> type[models.Model]:
        """The model whose rows have or share the pictures: this one, or the one a companion links to."""
        return self.link.related_model if self.link else self.model

    @property
    def image_path(self) -> str:
        """The path from ``target_model`` to the ImageField."""
        source = self.source or ""
        return source.partition("__")[2] if self.link else source

    @cached_property
    def route(self) -> tuple[models.ForeignKey, ...]:
        """The relations of ``image_path``: empty where each row has a picture of its own."""
        model, relations = self.target_model, []
        for name in self.image_path.split("__")[:-1]:
            relations.append(model._meta.get_field(name))
            model = relations[-1].related_model
        return tuple(relations)

    @cached_property
    def image_field(self) -> models.ImageField:
        """The ImageField that ``source`` names."""
        model = self.route[-1].related_model if self.route else self.target_model
        return model._meta.get_field(self.image_path.rpartition("__")[2])

    @property
    def crop_names(self) -> tuple[str, ...]:
        """The names of the columns of ``crop``, on the image's model: centre (x, y), width, height."""
        return tuple(f"{self.crop}_{side}" for side in CROP_SIDES) if self.crop else ()

    @property
    def crop_paths(self) -> tuple[str, ...]:
        """The paths to ``crop_names`` from ``target_model``."""
        return self._beside_image(self.crop_names)

    @property
    def size_names(self) -> tuple[str, ...]:
        """The names of the columns with the picture's width and height; of fields with ``crop``."""
        return (self.image_field.width_field, self.image_field.height_field) if self.crop else ()

    @property
    def size_paths(self) -> tuple[str, ...]:
        """The paths to ``size_names`` from ``target_model``."""
        return self._beside_image(self.size_names)

    def _beside_image(self, names: tuple[str, ...]) -> tuple[str, ...]:
        prefix = self.image_path.rpartition("__")[0]
        return tuple(f"{prefix}__{name}" if prefix else name for name in names)

    @property
    def product_paths(self) -> tuple[str, ...]:
        """The paths to the product, of which the first counts that leads somewhere; none where it is the row itself."""
        if self.product is None:
            return ()
        several = isinstance(self.product, list | tuple)
        return tuple(map(str, self.product)) if several else (str(self.product),)

    @cached_property
    def product_model(self) -> type[models.Model]:
        """The model that a search returns."""
        model = self.model
        path = (self.product_paths or (SELF,))[0]
        for name in [] if path == SELF else path.split("__"):
            model = model._meta.get_field(name).related_model
        return model

    def check(self, **kwargs: Any) -> list[Any]:
        return [*super().check(**kwargs), *([] if self.copied else check_embedding_field(self))]


_update_fields: WeakKeyDictionary[ModelState, frozenset[str]] = WeakKeyDictionary()
"""The ``update_fields`` of the caller of ``save()``, for the fields' ``pre_save``; by the instance's state."""


@receiver(pre_save, dispatch_uid="django_visual_search.note_update_fields")
def note_update_fields(
    sender: type[models.Model], instance: models.Model, update_fields: frozenset[str] | None = None, **kwargs: Any
) -> None:
    _update_fields.pop(instance._state, None)
    if update_fields is None:
        return
    fields = [field for field in sender._meta.concrete_fields if not field.primary_key and not field.generated]
    vectors = [field for field in fields if isinstance(field, EmbeddingField) and field.source]
    if not vectors:
        return
    deferred = instance.get_deferred_fields()
    loaded = {field.name for field in fields if field.attname not in deferred}
    # Of an instance with deferred fields, save() itself names all that are loaded.
    by_django = deferred and loaded <= {f.name for f in fields if not update_fields.isdisjoint({f.name, f.attname})}
    if not by_django or loaded <= {name for field in vectors for name in (field.name, field.key_name)}:
        _update_fields[instance._state] = update_fields
