"""Search for products that look like a product, like a photo, or like a text's words.

Entry functions: ``similar_to``, ``search_by_image`` and ``search_by_text``; ``find_objects`` and ``search_objects`` for
a photo of several things. A *query* is a vector in one space; *candidates* are the products that the scan found; the
*plan* is an exact scan or a scan of the HNSW index; a *hit* is a product with its similarity and rank; a *ranking* is
all places of a result, of which a page shows some. An *object* is a part of a photo that looks like a thing.
"""

from .answer import next_page, search_by_image, search_by_queries, search_by_text, similar_to
from .detection import FoundObject
from .objects import ObjectResults, find_objects, search_objects
from .results import SearchHit, SearchResults
from .words import TextUnavailable

__all__ = [
    "FoundObject",
    "ObjectResults",
    "SearchHit",
    "SearchResults",
    "TextUnavailable",
    "find_objects",
    "next_page",
    "search_by_image",
    "search_by_queries",
    "search_by_text",
    "search_objects",
    "similar_to",
]
