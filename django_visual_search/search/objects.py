"""The objects in a photo, and a search by each of them.

Entry functions: ``find_objects`` and ``search_objects``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.views.decorators.debug import sensitive_variables

from ..fields.registry import get_field, named_model
from ..images import Photo
from .answer import check_limit, photo_results, words_beside
from .candidates import database_of, products
from .detection import FoundObject, objects_in, whole_photo
from .query import part_queries
from .results import SearchResults

MOST_SEARCHED = 4
"""Boxes that a photo is searched by unless more are asked for: of composites' objects, the best four had .78 and all
seven .88, and each box takes most of the time of a photo search."""


@dataclass(frozen=True)
class ObjectResults:
    """The results for one object."""

    object: FoundObject
    results: SearchResults


@sensitive_variables("file")
def find_objects(file: Photo, label: str) -> list[FoundObject]:
    """Return the objects in a photo, best first: MOST_OBJECTS at most, the last of which is the whole picture.

    ``label``: as for ``search_by_image``; it says which photos are accepted. Takes a photo slot's worth of memory, as a
    search does (``gate.photo_slot``). Raises as ``search_by_image``, and ImproperlyConfigured for a ``DETECTOR`` that
    can't be imported or doesn't return boxes.
    """
    return objects_in(whole_photo(get_field(label), file))


@sensitive_variables("file")
def search_objects(
    file: Photo,
    label: str,
    *,
    limit: int = 12,
    within: Any = None,
    text: str | None = None,
    min_similarity: float | None = None,
    min_confidence: float | None = None,
    ranking: Any = None,
    depth: int | None = None,
    most: int = MOST_SEARCHED,
) -> list[ObjectResults]:
    """Search by the ``most`` best objects in a photo, which is decoded once; the whole picture comes last.

    Arguments: as for ``search_by_image``; ``limit`` is for each object. Takes a pass through the network for each, and
    up to three queries; search by another box with ``crop`` when somebody asks for it. Raises as ``find_objects``, and
    ValueError as ``search_by_image``.
    """
    check_limit(limit)
    field = get_field(label)
    picture = whole_photo(field, file)
    *best, whole = objects_in(picture)
    found = [*best[:most], whole]
    queryset = products(field, within, named_model(label))
    words = None if text is None else words_beside(field, text, queryset, limit, depth, min_confidence)
    bounds = min_similarity, min_confidence
    queries = part_queries(field, picture, [one.box for one in found], database_of(field, queryset))
    return [
        ObjectResults(one, photo_results(field, query, queryset, limit, depth, bounds, ranking, words))
        for one, query in zip(found, queries, strict=True)
    ]
