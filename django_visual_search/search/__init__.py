"""Search: what looks like this product, and what looks like this photo.

Entry functions: ``similar_to`` and ``search_by_image``; ``find_objects`` and ``search_objects`` for a photo of several
things. A *query* is a vector in one space; *candidates* are the rows that a search may return; the *plan* is an exact
scan or a scan of the HNSW graph; a *hit* is a product with its similarity and rank; a *ranking* is all places of a
result, of which a page shows some. An *object* is a part of a photo that looks like a thing.
"""

from .answer import next_page, search_by_image, similar_to
from .objects import FoundObject, ObjectResults, find_objects, search_objects
from .results import SearchHit, SearchResults

__all__ = [
    "FoundObject",
    "ObjectResults",
    "SearchHit",
    "SearchResults",
    "find_objects",
    "next_page",
    "search_by_image",
    "search_objects",
    "similar_to",
]
