"""System checks of one EmbeddingField's declaration. Each hint says what to write instead.

Entry functions: ``check_embedding_field``, and ``problem``, which builds the messages of all our checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core import checks
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import connections, models, router
from pgvector.django import HnswIndex, IvfflatIndex

from .indexes import OPCLASSES
from .keys import CROP_SIDES, SELF

if TYPE_CHECKING:
    from .embedding import EmbeddingField

MAX_INDEXED_DIMENSIONS = 4000  # pgvector: halfvec may be indexed up to 4,000 dimensions


FIELD_CHECKS = {
    "E001": "`dimensions` is not a whole number from 1 to 4,000.",
    "E002": "`metric` is not one of `cosine`, `l2` and `ip`.",
    "E003": "`source` is missing or names a field that does not exist.",
    "E004": "`source` leads over more than four relations.",
    "E005": "`source` goes through something that is not a foreign key or one-to-one field.",
    "E006": "`source` is not an `ImageField`.",
    "E007": "`product` is not a path of forward relations, or several of them to one model.",
    "E008": "An index has the operator class of another metric.",
    "E021": "A primary key consists of several columns.",
    "E022": "A companion has columns that must be given, or inherits another model's table.",
    "E028": "`crop` does not name the four columns of an area beside the image, or the image's size is not stored.",
    "E030": "`only` is not a condition on the model that has the picture.",
    "E027": "A primary key is a date, time, float, decimal, boolean or binary.",
    "W001": "A field has no ANN index.",
    "W015": "A model has nothing but a foreign key to pictures and their vectors, and its rows are not made.",
}
"""The ids of these checks; ``checks.CHECKS`` has the others."""


def problem(check: str, message: str, hint: str, obj: Any = None) -> checks.CheckMessage:
    """Build the error or warning of a check, such as ``"E003"``."""
    kind = checks.Error if check.startswith("E") else checks.Warning
    return kind(message, hint=hint, obj=obj, id=f"visual_search.{check}")


def check_embedding_field(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Return all messages about the field's own declaration; the package ``checks`` covers settings and databases."""
    messages = [*_check_dimensions(field), *_check_metric(field)]
    source = _check_source(field)
    messages += source
    if not source:
        product = _check_product(field)
        messages += product or _check_keys(field)
        messages += _check_companion(field)
    return messages + _check_index(field)


def _check_dimensions(field: EmbeddingField) -> list[checks.CheckMessage]:
    dimensions: Any = field.dimensions
    if isinstance(dimensions, int) and 1 <= dimensions <= MAX_INDEXED_DIMENSIONS:
        return []
    hint = f"Write dimensions=256, or another whole number from 1 to {MAX_INDEXED_DIMENSIONS}."
    return [problem("E001", f"'dimensions' is {dimensions!r}.", hint, field)]


def _check_metric(field: EmbeddingField) -> list[checks.CheckMessage]:
    if field.metric in OPCLASSES:
        return []
    hint = f"Use one of {', '.join(map(repr, OPCLASSES))}."
    return [problem("E002", f"'metric' is {field.metric!r}.", hint, field)]


LONGEST_ROUTE = 4
"""Relations that ``source`` may follow: each is a join in every look for stale vectors."""


def _check_source(field: EmbeddingField) -> list[checks.CheckMessage]:
    hint = f"Give the path of forward relations to an ImageField. {_here('source', _image_paths(field.model))}"
    source = field.source
    if not isinstance(source, str) or not source:
        return [problem("E003", "'source' is missing.", hint, field)]
    *names, image_name = source.split("__")
    if len(names) > LONGEST_ROUTE:
        return [problem("E004", f"'source' {source!r} leads over more than {LONGEST_ROUTE} relations.", hint, field)]
    model: Any = field.model
    try:
        for name in names:
            relation = model._meta.get_field(name)
            model = relation.related_model
            if not isinstance(relation, models.ForeignKey) or not isinstance(model, type):
                message = (
                    f"'source' {source!r} goes through '{name}', which is not a foreign key to an installed model."
                )
                return [problem("E005", message, hint, field)]
        image = model._meta.get_field(image_name)
    except FieldDoesNotExist as e:
        return [problem("E003", f"'source' {source!r} does not exist: {e}.", hint, field)]
    if not isinstance(image, models.ImageField):
        return [problem("E006", f"'source' {source!r} is a {type(image).__name__}, not an ImageField.", hint, field)]
    return [*_check_crop(field), *_check_only(field), *_check_rows_are_made(field)]


def _check_only(field: EmbeddingField) -> list[checks.CheckMessage]:
    if field.only is None:
        return []
    name = field.target_model.__name__
    hint = f"It is a Q of conditions on '{name}', the model that has the picture, such as Q(product__is_public=True)."
    try:
        models.QuerySet(field.target_model).filter(field.only)
    except (FieldError, TypeError, ValueError) as e:
        return [problem("E030", f"'only' is not a condition on '{name}': {e}", hint, field)]
    return []


def _check_crop(field: EmbeddingField) -> list[checks.CheckMessage]:
    if field.crop is None:
        return []
    image = field.image_field
    name = image.model.__name__
    numbers = {column.name for column in image.model._meta.fields if isinstance(column, models.IntegerField)}
    if not numbers >= set(field.crop_names):
        ends = [column.removesuffix("_x") for column in sorted(numbers) if column.endswith("_x")]
        found = [end for end in ends if numbers >= {f"{end}_{side}" for side in CROP_SIDES}]
        sides = ", ".join(f"'{field.crop}_{side}'" for side in CROP_SIDES)
        message = f"'crop' is {field.crop!r}, and '{name}' has not all of the integer columns {sides}."
        hint = f"They are an area's centre and size in pixels. {_here('crop', found)}"
        return [problem("E028", message, hint, field)]
    if not (image.width_field and image.height_field):
        message = f"'crop' is {field.crop!r}, and '{name}.{image.name}' has no width_field and height_field."
        hint = "The area is in pixels of that size: name integer columns in width_field and height_field."
        return [problem("E028", message, hint, field)]
    return []


def _check_rows_are_made(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Report what looks like a companion, but has a foreign key in place of the one-to-one field."""
    if field.link is not None or not field.route or field.route[0].model is not field.model:
        return []
    ours = (field.route[0], field, field.model._meta.get_field(field.key_name), field.model._meta.pk)
    if any(column not in ours for column in field.model._meta.local_concrete_fields):
        return []
    name = field.route[0].name
    message = f"Rows of '{field.model.__name__}' are made by nobody: '{name}' is a foreign key, which many may share."
    hint = f"For one vector of each picture, made for you, make '{name}' a OneToOneField, best with primary_key=True."
    return [problem("W015", message, hint, field)]


def _check_product(field: EmbeddingField) -> list[checks.CheckMessage]:
    if field.product is None:
        return []
    hint = (
        "Give the path of forward relations from this model to the product, such as product='image__product', or "
        "several, of which the first that leads somewhere counts: "
        "product=('image__product__parent', 'image__product'). "
        f"{_here('product', [*_relation_paths(field.model), SELF])}"
    )
    reason = _fault_of_paths(field)
    return [problem("E007", reason, hint, field)] if reason else []


def _fault_of_paths(field: EmbeddingField) -> str:
    """Return the faults of the paths of ``product``; empty if there are none."""
    paths = field.product_paths
    if not paths:
        return "'product' names no path."
    ends: dict[str, type[models.Model]] = {}
    for path in paths:
        if path in ends:
            return f"'product' names the path {path!r} twice."
        end = _model_at_end(field.model, path)
        if isinstance(end, str):
            return end
        ends[path] = end
    if len({end._meta.concrete_model for end in ends.values()}) > 1:
        each = ", ".join(f"{path!r} to {end._meta.label}" for path, end in ends.items())
        return f"The paths of 'product' lead to different models: {each}."
    return ""


def _model_at_end(model: type[models.Model], path: str) -> type[models.Model] | str:
    """Return the model that a path of ``product`` leads to, or a sentence that says why it leads nowhere."""
    for name in [] if path == SELF else path.split("__"):
        try:
            relation = model._meta.get_field(name)
        except FieldDoesNotExist as e:
            return f"'product' path {path!r} does not exist: {e}."
        if not isinstance(relation, models.ForeignKey):
            return f"'product' path {path!r}: '{name}' is not a forward relation."
        if isinstance(relation.related_model, str):
            return (
                f"'product' path {path!r}: '{name}' leads to {relation.related_model}, which is not an installed model."
            )
        model = relation.related_model
    return model


DEEPEST = 3
"""Relations of the longest path that a hint names."""
MOST_NAMED = 12


def _here(option: str, paths: list[str]) -> str:
    """Return a sentence that names what would work."""
    if not paths:
        return f"This model has nothing that {option!r} could name."
    more = ", and others" if len(paths) > MOST_NAMED else ""
    return f"Of this model, {option!r} may be {' or '.join(map(repr, paths[:MOST_NAMED]))}{more}."


def _image_paths(model: type[models.Model]) -> list[str]:
    places = [("", model)]
    for path in _relation_paths(model):
        place: Any = model
        for name in path.split("__"):
            place = place._meta.get_field(name).related_model
        places.append((f"{path}__", place))
    return [
        f"{prefix}{image.name}"
        for prefix, place in places
        for image in place._meta.fields
        if isinstance(image, models.ImageField)
    ]


def _relation_paths(model: type[models.Model], deep: int = DEEPEST) -> list[str]:
    paths = []
    for relation in model._meta.fields if deep else ():
        if isinstance(relation, models.ForeignKey) and _leads(relation):
            beyond = [] if relation.related_model is model else _relation_paths(relation.related_model, deep - 1)
            paths += [relation.name, *(f"{relation.name}__{path}" for path in beyond)]
    return sorted(paths, key=lambda path: path.count("__"))


def _leads(relation: Any) -> bool:
    """Return whether the relation's model is installed; its name stands for one that is not."""
    return isinstance(relation.related_model, type)


UNSURE_KEYS = ("date", "time", "interval", "numeric", "double", "real", "bytea", "inet", "cidr", "bool", "json")
"""Beginnings of PostgreSQL types of which one value has several texts, or another in Python than in the database."""


def _check_keys(field: EmbeddingField) -> list[checks.CheckMessage]:
    involved = dict.fromkeys((field.model, field.target_model, field.product_model))
    composite = [model for model in involved if isinstance(model._meta.pk, models.CompositePrimaryKey)]
    if not composite:
        return [message for model in involved if (message := _check_key_type(field, model))]
    names = ", ".join(repr(model.__name__) for model in composite)
    hint = "Give the model a primary key of one column, with a UniqueConstraint over the columns of the present one."
    return [problem("E021", f"{names} has a primary key of several columns, which is not supported.", hint, field)]


def _check_key_type(field: EmbeddingField, model: type[models.Model]) -> checks.CheckMessage | None:
    connection = connections[router.db_for_write(field.model)]
    kind = str(model._meta.pk.rel_db_type(connection) or "") if connection.vendor == "postgresql" else ""
    if not kind.startswith(UNSURE_KEYS):
        return None
    message = f"The primary key of '{model.__name__}' is a {kind}: pictures are found by the text of their row's key."
    hint = "Give the model a primary key of whole numbers, UUIDs or text, and the present one a UniqueConstraint."
    return problem("E027", message, hint, field)


def _check_companion(field: EmbeddingField) -> list[checks.CheckMessage]:
    """Report why a companion row can't be inserted with only its link, vector and key."""
    if field.link is None:
        return []
    name = field.model.__name__
    if field.model._meta.parents:
        message = f"Rows of '{name}' can't be inserted in bulk: it inherits another model's table."
        return [problem("E022", message, "Derive the companion from models.Model or from an abstract model.", field)]
    ours = (field.link, field, field.model._meta.get_field(field.key_name))
    required = [f.name for f in field.model._meta.local_concrete_fields if f not in ours and not _fills_itself(f)]
    if not required:
        return []
    names = ", ".join(map(repr, required))
    message = f"Embedding a picture inserts a row of '{name}', with no value for {names}."
    return [problem("E022", message, "Give each a default or null=True, or keep them in another model.", field)]


def _fills_itself(field: Any) -> bool:
    """Return whether several rows can be inserted without a value for this column."""
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
        return [problem("W001", message, hint, field)]
    opclass = OPCLASSES.get(field.metric)
    for index in ann:
        opclasses = list(index.opclasses)
        if opclass and opclasses != [opclass]:
            message = f"Index '{index.name}' has operator class {opclasses}, which metric {field.metric!r} can't use."
            return [problem("E008", message, hint, field)]
    return []
