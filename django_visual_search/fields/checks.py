"""System checks of one EmbeddingField. Ids ``visual_search.E0…``; each says what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from pgvector.django import HnswIndex, IvfflatIndex

from .indexes import OPCLASSES

if TYPE_CHECKING:
    from .embedding import EmbeddingField

MAX_INDEXED_DIMENSIONS = 4000  # pgvector: halfvec may be indexed up to 4,000 dimensions


def check_embedding_field(field: EmbeddingField) -> list[checks.CheckMessage]:
    """All messages about the field's own declaration; settings and servers are checked in ``checks.py``."""
    messages = [*_check_dimensions(field), *_check_metric(field)]
    source = _check_source(field)
    messages += source
    if not source:
        product = _check_product(field)
        messages += product or _check_keys(field)
        messages += _check_companion(field)
    return messages + _check_index(field)


def _error(field: EmbeddingField, number: int, message: str, hint: str) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, obj=field, id=f"visual_search.E{number:03}")


def _check_dimensions(field: EmbeddingField) -> list[checks.CheckMessage]:
    dimensions: Any = field.dimensions
    if isinstance(dimensions, int) and 1 <= dimensions <= MAX_INDEXED_DIMENSIONS:
        return []
    hint = f"Write dimensions=256, or another whole number from 1 to {MAX_INDEXED_DIMENSIONS}."
    return [_error(field, 1, f"'dimensions' is {dimensions!r}.", hint)]


def _check_metric(field: EmbeddingField) -> list[checks.CheckMessage]:
    if field.metric in OPCLASSES:
        return []
    return [_error(field, 2, f"'metric' is {field.metric!r}.", f"Use one of {', '.join(map(repr, OPCLASSES))}.")]


def _check_source(field: EmbeddingField) -> list[checks.CheckMessage]:
    hint = (
        "Name an ImageField of this model (source='image') or of a model one one-to-one link away "
        "(source='image__original')."
    )
    if not isinstance(field.source, str) or not field.source:
        return [_error(field, 3, "'source' is missing.", hint)]
    if field.source.count("__") > 1:
        return [_error(field, 4, f"'source' {field.source!r} is more than one relation away.", hint)]
    try:
        link = field.link
    except FieldDoesNotExist as e:
        return [_error(field, 3, f"'source' {field.source!r} does not exist: {e}.", hint)]
    if link is not None and not (isinstance(link, models.OneToOneField) and isinstance(link.related_model, type)):
        return [
            _error(
                field,
                5,
                f"'source' {field.source!r} goes through '{link.name}', which is not a OneToOneField of this model.",
                "Each picture has one embedding: make the link a OneToOneField, best with primary_key=True.",
            )
        ]
    try:
        image = field.image_field
    except FieldDoesNotExist as e:
        return [_error(field, 3, f"'source' {field.source!r} does not exist: {e}.", hint)]
    if not isinstance(image, models.ImageField):
        return [_error(field, 6, f"'source' {field.source!r} is a {type(image).__name__}, not an ImageField.", hint)]
    return []


def _check_product(field: EmbeddingField) -> list[checks.CheckMessage]:
    if field.product is None:
        return []
    hint = "Give the path of forward relations from this model to the product, such as product='image__product'."
    model = field.model
    for name in str(field.product).split("__"):
        try:
            relation = model._meta.get_field(name)
        except FieldDoesNotExist as e:
            return [_error(field, 7, f"'product' path {field.product!r} does not exist: {e}.", hint)]
        if not isinstance(relation, models.ForeignKey):
            return [_error(field, 7, f"'product' path {field.product!r}: '{name}' is not a forward relation.", hint)]
        if isinstance(relation.related_model, str):
            lost = f"'{name}' leads to {relation.related_model}, which is not an installed model"
            return [_error(field, 7, f"'product' path {field.product!r}: {lost}.", hint)]
        model = relation.related_model
    return []


def _check_keys(field: EmbeddingField) -> list[checks.CheckMessage]:
    concerned = dict.fromkeys((field.model, field.target_model, field.product_model))
    composite = [model for model in concerned if isinstance(model._meta.pk, models.CompositePrimaryKey)]
    if not composite:
        return []
    names = ", ".join(repr(model.__name__) for model in composite)
    hint = "Give the model a primary key of one column, with a UniqueConstraint over the columns of the present one."
    return [_error(field, 21, f"{names} has a primary key of several columns, which is not supported.", hint)]


def _check_companion(field: EmbeddingField) -> list[checks.CheckMessage]:
    """A companion's rows are made when pictures are embedded, with link, vector and key and nothing else."""
    if field.link is None:
        return []
    name = field.model.__name__
    if field.model._meta.parents:
        message = f"The rows of '{name}' can't be made in bulk, for it inherits another model's table."
        return [_error(field, 22, message, "Derive the companion from models.Model or from an abstract model.")]
    ours = (field.link, field, field.model._meta.get_field(field.key_name))
    wanting = [f.name for f in field.model._meta.local_concrete_fields if f not in ours and not _fills_itself(f)]
    if not wanting:
        return []
    names = ", ".join(map(repr, wanting))
    message = f"The rows of '{name}' are made when pictures are embedded, and nothing is known then for {names}."
    return [_error(field, 22, message, "Give each a default or null=True, or keep them in another model.")]


def _fills_itself(field: Any) -> bool:
    """Whether a row can be inserted without a value for this column, and another one after it."""
    if field.null or field.generated or isinstance(field, models.AutoField) or field.has_default():
        return True
    if field.db_default is not models.NOT_PROVIDED or getattr(field, "auto_now", False):
        return True
    # Django then writes the empty string, which only one row of a unique column can have.
    return bool(getattr(field, "auto_now_add", False) or (field.empty_strings_allowed and not field.unique))


def _check_index(field: EmbeddingField) -> list[checks.CheckMessage]:
    indexes = [index for index in field.model._meta.indexes if field.name in index.fields]
    ann = [index for index in indexes if isinstance(index, (HnswIndex, IvfflatIndex))]
    index = f"EmbeddingIndex(fields=[{field.name!r}], name=…, metric={field.metric!r})"
    hint = f"Add {index} to {field.model.__name__}.Meta.indexes and make a migration."
    if not ann:
        message = "There is no ANN index on this field: every search reads the whole table."
        return [checks.Warning(message, hint=hint, obj=field, id="visual_search.W001")]
    wanted = OPCLASSES.get(field.metric)
    for index in ann:
        opclasses = list(index.opclasses)
        if wanted and opclasses != [wanted]:
            message = f"Index '{index.name}' has operator class {opclasses}, which metric {field.metric!r} can't use."
            return [_error(field, 8, message, hint)]
    return []
