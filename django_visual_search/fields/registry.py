"""The embedding fields of this project, found in its models: the schema is the only declaration."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.apps import apps
from django.db import models

from .embedding import EmbeddingField


def embedding_fields() -> list[EmbeddingField]:
    """Return every EmbeddingField with a source, of the installed concrete models, in the models' order."""
    return list(_loaded_fields() if apps.ready else _find_fields())


def _find_fields() -> Iterator[EmbeddingField]:
    return (
        field
        for model in apps.get_models()
        if not model._meta.proxy
        for field in model._meta.local_fields
        if isinstance(field, EmbeddingField) and field.source
    )


@functools.cache
def _loaded_fields() -> tuple[EmbeddingField, ...]:
    # Every save and every search asks, and models don't change once they are loaded.
    return tuple(_find_fields())


def get_field(label: str) -> EmbeddingField:
    """Return the field with the label ``app.Model.field`` (case-insensitive).

    ``app.Model`` is enough where that model has one embedding field, or one field searches its products; of several,
    the field on the product's own table wins. Raises LookupError, naming the labels of the project.
    """
    return _find_named(label, tuple(embedding_fields()))


@functools.lru_cache(maxsize=256)
def _find_named(label: str, fields: tuple[EmbeddingField, ...]) -> EmbeddingField:
    for field in fields:
        if field.label.lower() == label.lower():
            return field
    model = named_model(label)
    if model is not None:
        own = [field for field in fields if issubclass(model, field.model)]
        found = own or [field for field in fields if issubclass(model, field.product_model)]
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"{label!r} has several embedding fields; name one of {_list_labels(found)}.")
    raise LookupError(f"There is no embedding field {label!r}. This project has: {_list_labels(fields) or 'none'}.")


def search_field(model: type[models.Model], label: str | None = None) -> EmbeddingField:
    """Return the field that searches products of ``model``, or of its companion rows.

    That is the field with this ``label``; without a label, of several the one on the products' own table. Raises
    LookupError, naming the labels of the project.
    """
    if label:
        return get_field(label)
    fields = fields_of_product(model)
    return fields[0] if fields else get_field(model._meta.label)


def only_field() -> EmbeddingField:
    """Return the project's only embedding field. Raises LookupError for none or several, naming them."""
    fields = embedding_fields()
    if len(fields) == 1:
        return fields[0]
    raise LookupError(f"Name an embedding field; this project has: {_list_labels(fields) or 'none'}.")


def named_model(label: str) -> type[models.Model] | None:
    """Return the model with the label ``app.Model``, perhaps a proxy whose manager limits the hits, or None."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def fields_of_product(model: type[models.Model]) -> list[EmbeddingField]:
    """Return the fields that search products of this model or its parents, those on the product's own table first."""
    found = [field for field in embedding_fields() if issubclass(model, field.product_model)]
    return sorted(found, key=lambda field: field.product is not None)


class Feed(NamedTuple):
    """Columns of one table that decide which picture a field's rows have."""

    field: EmbeddingField
    model: type[models.Model]
    columns: tuple[models.Field, ...]
    path: str
    """From ``field.target_model`` to the model; empty for its own table or a parent's."""

    @property
    def has_image(self) -> bool:
        return self.field.image_field in self.columns

    @property
    def is_direct(self) -> bool:
        """Whether the picture's name is all that counts, and its row is the one that has it."""
        return not self.path and self.has_image and not self.field.crop


@functools.cache
def feeds_of(field: EmbeddingField) -> tuple[Feed, ...]:
    """Return every table between a row and its picture, the nearest first."""
    image, names = field.image_field, [relation.name for relation in field.route]
    feeds = [
        Feed(field, relation.model, (relation,), "__".join(names[:place])) for place, relation in enumerate(field.route)
    ]
    beside = [image.model._meta.get_field(name) for name in (*field.crop_names, *field.size_names)]
    return (*feeds, Feed(field, image.model, (image, *beside), "__".join(names)))


def feeds_from(model: type[models.Model]) -> list[Feed]:
    """Return the feeds that lie in a table that saving a ``model`` may write: its own or a parent's."""
    return [feed for field in embedding_fields() for feed in feeds_of(field) if issubclass(model, feed.model)]


def _list_labels(fields: Sequence[EmbeddingField]) -> str:
    return ", ".join(field.label for field in fields)
