"""The query of a search, as a vector in every live space.

Entry functions: ``photo_queries`` for a photo, which is embedded before any SQL of the search; ``loaded_query``,
``stored_picture`` and ``stored_queries`` for a product, whose picture is never decoded here.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from django.db import connections, router
from django.db.models import Model, QuerySet
from django.views.decorators.debug import sensitive_variables
from numpy.typing import NDArray
from PIL import Image, ImageChops

from .. import images
from ..conf import conf
from ..db.rows import all_rows, plain
from ..db.statements import Answer
from ..decoding.photos import decode_photo
from ..extractors import Extractor, ExtractorUnavailable
from ..extractors.backbone import BackboneExtractor
from ..extractors.base import l2_normalise
from ..extractors.looks import NetworkExtractor
from ..fields import EmbeddingField
from ..fields.keys import split_key
from ..fields.products import rows_of_product, with_product
from ..spaces import features
from ..spaces.extractors import extractor_of
from ..spaces.heads import extractor_of_space, key_of_space
from ..spaces.live import LiveSpaces, live_spaces, remembered_spaces
from .detection import WHOLE, objects_in, whole_photo

logger = logging.getLogger("django_visual_search")


SURE_SCORE = 0.5
"""Score from which an object is the photo's main one: with boxes below it, fewer store photos found their kind."""


BLANK_DEVIATION = 1.0
"""Least standard deviation, in levels of 0 to 255, of a channel of a picture that shows something. Measured over what a
network gets: 0 for a blank file of any colour, in JPEG too; a photo of a plain wall or tile has several, by its shading
(5 % less light at one side are about 3), even where scaling down averages out the sensor's noise."""


@dataclass(frozen=True)
class Query:
    """A vector, ``(dimensions,)``, and the key of its space."""

    vector: Any
    extractor_key: str
    blank: bool = False
    """Whether the vector is of a picture that shows nothing: see ``is_blank``."""


@sensitive_variables("file", "photo", "pixels")
def photo_queries(
    field: EmbeddingField, file: images.Photo, crop: images.Box | None = None, using: str | None = None
) -> list[Query]:
    """Embed a photo in every live space of the field, the one that vectors are made in first.

    It is decoded once, in a process of its own, and its features are made once, for spaces that share them. While two
    spaces are live, one whose extractor can't run here is logged and left out. Raises as ``decode_photo``, and
    ExtractorUnavailable where none can run, or only after the export of its model.
    """
    if crop is None and conf.MAIN_OBJECT:
        return _main_object_queries(field, file, using)
    extractors, problems = _live_extractors(field, using)
    photo = images.read_picture(file, extractor_of(field).spec.images.max_bytes)

    def prepared(options: images.ImageOptions, size: int) -> NDArray[np.uint8]:
        return decode_photo(photo, options, size, crop)[None]

    [queries] = _embedded(field, extractors, problems, prepared)
    return queries


def _main_object_queries(field: EmbeddingField, file: images.Photo, using: str | None) -> list[Query]:
    """Return queries half way between the whole photo and its main object, if one is sure enough."""
    picture = whole_photo(field, file)
    first = objects_in(picture)[0]
    boxes = [WHOLE, first.box] if first.score >= SURE_SCORE else [WHOLE]
    whole, *parts = part_queries(field, picture, boxes, using)
    if not parts:
        return whole
    return [
        Query(l2_normalise((a.vector + b.vector)[None])[0], a.extractor_key, a.blank)
        for a, b in zip(whole, *parts, strict=True)
    ]


def part_queries(
    field: EmbeddingField, picture: Image.Image, boxes: Sequence[images.Box], using: str | None = None
) -> list[list[Query]]:
    """Embed parts of a photo, an ``images.load_whole`` picture: for each box what ``photo_queries`` returns.

    Raises ExtractorUnavailable as ``photo_queries``.
    """
    extractors, problems = _live_extractors(field, using)

    def prepared(options: images.ImageOptions, size: int) -> NDArray[np.uint8]:
        return np.stack(
            [np.asarray(images.crop_square(picture, options=options, crop=box, size=size)) for box in boxes]
        )

    return _embedded(field, extractors, problems, prepared)


Problems = list[ExtractorUnavailable]


def _live_extractors(field: EmbeddingField, using: str | None = None) -> tuple[list[Extractor], Problems]:
    """Return the extractors of the live spaces that can run here, and the reasons why others can't."""
    connection = connections[using or router.db_for_read(field.model)]
    was_closed = connection.connection is None
    extractors, problems = [], []
    for space in live_spaces(field, using=connection.alias).all:
        try:
            extractor = extractor_of_space(field, space, connection.alias)
            if advice := extractor.export_needed():
                raise ExtractorUnavailable(advice)
            extractors.append(extractor)
        except ExtractorUnavailable as e:
            problems.append(e)
    if was_closed and not connection.in_atomic_block:
        connection.close()  # opened for these questions; embedding takes long, and servers have few connections
    return extractors, problems


def _embedded(
    field: EmbeddingField,
    extractors: Sequence[Extractor],
    problems: Problems,
    prepared: Callable[[images.ImageOptions, int], NDArray[np.uint8]],
) -> list[list[Query]]:
    """Return the queries of each picture of a batch; ``prepared`` gives its pixels, ``(n, size, size, 3)``."""
    queries: list[list[Query]] = []
    pixels: dict[Any, NDArray[np.uint8]] = {}
    made: dict[str, NDArray[np.float16]] = {}
    for extractor in extractors:
        spec = extractor.spec
        how = (spec.images, spec.input_size)
        if how not in pixels:
            pixels[how] = prepared(*how)
        try:
            vectors = _embedded_once(extractor, pixels[how], made)
            blank = [isinstance(extractor, NetworkExtractor) and is_blank(one, spec.images) for one in pixels[how]]
            queries.append([Query(*one) for one in zip(vectors, [spec.key] * len(blank), blank, strict=True)])
        except ExtractorUnavailable as e:
            problems.append(e)
    if not queries:
        raise problems[0]
    for problem in problems:
        logger.warning("visual search: %s: one of two vector spaces is not searched: %s", field.label, problem)
    return [list(of_one) for of_one in zip(*queries, strict=True)]


def is_blank(pixels: NDArray[np.uint8], options: images.ImageOptions) -> bool:
    """Return whether a prepared picture, ``(s, s, 3)``, has no detail: one colour, beside padding.

    A network's vector of such a picture is arbitrary, and may lie near some product. Confidence learned from drawn
    strangers rejects most blanks, this check all. Not asked of ``ClassicExtractor``, which compares colours: the file
    of a plain tile or swatch is a fair question there.
    """
    picture = Image.fromarray(pixels)
    content = ImageChops.difference(picture, Image.new("RGB", picture.size, options.background)).getbbox()
    if content is None:
        return True
    # The variances of ImageStat, which sums over a histogram in Python and takes a tenth of a small photo's decoding.
    counts = np.reshape(picture.crop(content).histogram(), (3, 256))
    shares, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256)
    return bool(np.max(shares @ values**2 - (shares @ values) ** 2) < BLANK_DEVIATION**2)


def _embedded_once(extractor: Extractor, pixels: NDArray[np.uint8], made: dict[str, NDArray[np.float16]]) -> Any:
    if not isinstance(extractor, BackboneExtractor):
        return extractor(pixels)
    if extractor.features_key not in made:
        made[extractor.features_key] = extractor.kept_features(pixels)
    return extractor.project(made[extractor.features_key])


def moved(query: Query, directions: Mapping[str, NDArray[np.float32]]) -> Query:
    """Return the query moved towards the words by ``TEXT_WEIGHT``; unchanged in a space that doesn't place them."""
    direction = directions.get(query.extractor_key)
    if direction is None:
        return query
    vector = np.asarray(query.vector, np.float32) + np.float32(conf.TEXT_WEIGHT) * direction
    return replace(query, vector=l2_normalise(vector[None])[0])


def loaded_query(field: EmbeddingField, product: Model, using: str) -> Query | None:
    """Return the vector that a product was loaded with, or None where it has to be read from the database.

    None if the instance has no vector loaded, if two spaces are live, or if this process doesn't currently remember
    which spaces are live.
    """
    if field.product is not None or not isinstance(product, field.model):
        return None
    # An attribute that was never set would cost a query of its own.
    vector, key = product.__dict__.get(field.attname), product.__dict__.get(field.key_name)
    spaces = remembered_spaces(field, using)
    if vector is None or not key or spaces is None or spaces.other is not None:
        return None
    extractor_key, _ = split_key(key)
    return Query(vector, extractor_key) if extractor_key == key_of_space(field, spaces.serving) else None


def stored_picture(field: EmbeddingField, instance: Model) -> QuerySet[Any]:
    """Return (vector, key, product's key, key of the picture's row) of the row that stands for a product, at most one.

    ``instance``: the product, of whose pictures the first that has a vector counts, in the order of
    ``rows_of_product`` and then the owning model's default; or a companion row.
    """
    if isinstance(instance, field.product_model) and field.product is not None:
        # Of a product that is its own relation, a manager may hide the children.
        rows = all_rows(field.model) if isinstance(instance, field.model) else plain(field.model._default_manager.all())
        rows = rows_of_product(field, rows if rows.ordered else rows.order_by("pk"), instance)
        rows = rows.filter(**{f"{field.name}__isnull": False, f"{field.key_name}__isnull": False})
    else:
        rows = all_rows(field.model).filter(pk=instance.pk)
    rows, product = with_product(field, rows)
    target = f"{field.link.name}__pk" if field.link else "pk"
    return rows.values_list(field.name, field.key_name, product, target)[:1]


def stored_queries(field: EmbeddingField, answer: Answer, spaces: LiveSpaces, connection: Any) -> list[Query]:
    """Return the queries of a ``stored_picture``: its own vector, then one for the other live space.

    That one comes from kept features. Where none are kept, only the space of its vector is searched, which is logged
    once.
    """
    [(vector, key, _, object_id)] = answer or [(None,) * 4]
    if vector is None or not key:
        return []
    own, image = split_key(key)
    queries = [Query(field.from_db_value(vector, None, connection), own)]
    live = {} if spaces.other is None else {key_of_space(field, space): space for space in spaces.all}
    for other in [space for extractor_key, space in live.items() if own in live and extractor_key != own]:
        try:
            queries += _from_kept_features(field, extractor_of_space(field, other), str(object_id), image)
        except ExtractorUnavailable as e:
            _log_once(field.label, str(e))
    return queries


def _from_kept_features(field: EmbeddingField, extractor: Extractor, object_id: str, image: str) -> Sequence[Query]:
    if isinstance(extractor, BackboneExtractor):
        kept = features.read(field, extractor.features_key, [(object_id, image)])
        if object_id in kept:
            return [Query(extractor.project(kept[object_id][None])[0], extractor.spec.key)]
    _log_once(field.label, f"no features for {extractor.spec.key} are kept of some pictures.")
    return []


@functools.lru_cache(maxsize=64)
def _log_once(label: str, problem: str) -> None:
    logger.warning("visual search: %s: one of two vector spaces is not searched: %s", label, problem)
